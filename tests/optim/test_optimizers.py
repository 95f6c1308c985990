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


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_is_torchs_own(name):
    ours, loss = descend(lambda parameters: make_optimizer(parameters, name=name, lr=0.01, fused=False))
    assert torch.equal(ours, descend(TORCH[name])[0])
    assert loss < 5.5  # what it starts from
    fused, _ = descend(lambda parameters: make_optimizer(parameters, name=name, lr=0.01))
    torch.testing.assert_close(fused, ours)


def test_every_listed_option_is_one_torch_knows():
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
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(InputError, match=message):
        make_optimizer([torch.nn.Parameter(torch.ones(2))], **{"name": "sgd", "lr": 0.1, **arguments})
