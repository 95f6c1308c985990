import pytest
import torch

from phoneme.errors import InputError
from phoneme.optim import OPTIMIZERS, make_optimizer

TORCH = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.01),
    "momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.01, momentum=0.9),
    "adagrad": lambda parameters: torch.optim.Adagrad(parameters, lr=0.01),
    "rmsprop": lambda parameters: torch.optim.RMSprop(parameters, lr=0.01),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.01),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.01),
    "radam": lambda parameters: torch.optim.RAdam(parameters, lr=0.01),
}


def descend(make) -> tuple[torch.Tensor, float]:
    """Five steps on an elongated bowl from (1, 1), and where they end."""
    theta = torch.nn.Parameter(torch.ones(2))
    optimizer = make([theta])
    for _ in range(5):
        optimizer.zero_grad()
        loss = (torch.tensor([1.0, 10.0]) * theta.square()).sum() / 2
        loss.backward()
        optimizer.step()
    return theta.detach(), loss.item()


@pytest.mark.parametrize("name", TORCH)
def test_is_torchs_own(name):
    ours, loss = descend(lambda parameters: make_optimizer(parameters, name=name, lr=0.01, fused=False))
    assert torch.equal(ours, descend(TORCH[name])[0])
    assert loss < 5.5  # what it starts from
    fused, _ = descend(lambda parameters: make_optimizer(parameters, name=name, lr=0.01))
    torch.testing.assert_close(fused, ours)


def test_every_listed_option_is_one_the_optimizer_knows():
    for recipe in OPTIMIZERS.values():
        optimizer = recipe.build([torch.nn.Parameter(torch.ones(2))], lr=0.01)
        assert set(recipe.options) <= set(optimizer.defaults)


def test_options_are_passed_on():
    parameters = [torch.nn.Parameter(torch.ones(2))]
    optimizer = make_optimizer(parameters, name="momentum", lr=0.1, momentum=0.5, nesterov=True)
    assert optimizer.defaults["momentum"] == 0.5
    assert optimizer.defaults["nesterov"] is True
    optimizer = make_optimizer(parameters, name="adamw", lr=0.1, betas=[0.8, 0.9], weight_decay=0.3)
    assert optimizer.defaults["weight_decay"] == 0.3


def steps_of(name: str, weight: torch.Tensor, gradients: torch.Tensor, **options) -> list[torch.Tensor]:
    """The weight after each update, for gradients that do not depend on it."""
    theta = torch.nn.Parameter(weight.clone())
    optimizer = make_optimizer([theta], name=name, **options)
    places = []
    for gradient in gradients:
        theta.grad = gradient.clone()
        optimizer.step()
        places.append(theta.detach().clone())
    return places


def matrix_and_gradients() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(4, 3, dtype=torch.float64, generator=generator),
        torch.randn(5, 4, 3, dtype=torch.float64, generator=generator),
    )


def test_lars_is_the_papers_algorithm():
    """You et al. 2017, algorithm 1: rate gamma eta |w| / (|g| + beta |w|) on g + beta w, then momentum."""
    weight, gradients = matrix_and_gradients()
    found = steps_of("lars", weight, gradients, lr=2.0, trust_coefficient=0.01, weight_decay=0.1, momentum=0.9)
    v = torch.zeros_like(weight)
    for gradient, place in zip(gradients, found, strict=True):
        local = 2.0 * 0.01 * weight.norm() / (gradient.norm() + 0.1 * weight.norm())
        v = 0.9 * v + local * (gradient + 0.1 * weight)
        weight = weight - v
        torch.testing.assert_close(place, weight, rtol=1e-12, atol=1e-12)


def test_lars_moves_vectors_plainly():
    bias, gradient = torch.tensor([3.0, 4.0]), torch.tensor([0.5, 0.0])
    (found,) = steps_of("lars", bias, gradient[None], lr=0.1, weight_decay=0.1)
    assert torch.equal(found, bias - 0.1 * gradient)


def test_lamb_is_the_papers_algorithm():
    """You et al. 2020, algorithm 2: the length of the step is the rate times that of the weights."""
    weight, gradients = matrix_and_gradients()
    found = steps_of("lamb", weight, gradients, lr=0.01, weight_decay=0.1, eps=1e-6)
    m, v = torch.zeros_like(weight), torch.zeros_like(weight)
    for gradient, place in zip(gradients, found, strict=True):
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient.square()
        direction = m / (v.sqrt() + 1e-6) + 0.1 * weight
        step = 0.01 * weight.norm() * direction / direction.norm()
        weight = weight - step
        torch.testing.assert_close(place, weight, rtol=1e-6, atol=1e-6)  # eps also in the trust ratio
    assert step.norm() / weight.norm() == pytest.approx(0.01, rel=0.02)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_resumes_from_a_weights_only_checkpoint(name, tmp_path):
    def descend_further(optimizer, theta, steps):
        for _ in range(steps):
            theta.grad = torch.tensor([[1.0, 10.0]]) * theta.detach()
            optimizer.step()

    theta = torch.nn.Parameter(torch.ones(1, 2))
    optimizer = make_optimizer([theta], name=name, lr=0.01)
    descend_further(optimizer, theta, 10)
    torch.save({"theta": theta.detach(), "optimizer": optimizer.state_dict()}, tmp_path / "state.pt")
    descend_further(optimizer, theta, 10)
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    again = torch.nn.Parameter(saved["theta"])
    resumed = make_optimizer([again], name=name, lr=0.5)
    resumed.load_state_dict(saved["optimizer"])
    descend_further(resumed, again, 10)
    assert torch.equal(again, theta)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"name": "adamax"},
            r"(?s)a known optimizer, got adamax.*optim\.name.*did you mean adam\w?\?.*rmsprop, sgd",
        ),
        ({"lr": 0.0}, r"(?s)a positive learning rate, got 0\.0.*optim\.lr.*hint:"),
        ({"lr": -1.0}, r"(?s)a positive learning rate, got -1\.0.*optim\.lr"),
        ({"lr": float("nan")}, r"(?s)a positive learning rate, got nan.*optim\.lr"),
        ({"lr": float("inf")}, r"(?s)a positive learning rate, got inf.*optim\.lr"),
        ({"momentum": 0.9}, r"(?s)option of sgd, got momentum.*optim\.momentum.*here: weight_decay"),
        ({"weight_decay": -1.0}, r"(?s)values that sgd accepts, got .*-1\.0.*optim.*torch\.optim\.SGD"),
        ({"name": "adam", "betas": 0.9}, r"(?s)values that adam accepts, got .*betas.*torch\.optim\.Adam"),
        ({"name": "lars", "momentum": 2.0}, r"(?s)values that lars accepts, got .*2\.0.*pytorch_optimizer\.LARS"),
        ({"name": "lamb", "betas": [0.9, 1.5]}, r"(?s)values that lamb accepts, got .*1\.5.*pytorch_optimizer\.Lamb"),
        ({"name": "lamb", "rectify": True}, r"(?s)option of lamb, got rectify.*here: betas, eps, weight_decay"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(InputError, match=message):
        make_optimizer([torch.nn.Parameter(torch.ones(2))], **{"name": "sgd", "lr": 0.1, **arguments})
