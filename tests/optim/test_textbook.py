"""The lecture's optimizers against torch's: the same where they coincide, and by how much they differ where not."""

import inspect
from itertools import pairwise

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR

from phoneme.errors import InputError
from phoneme.losses import cross_entropy
from phoneme.models.mlp import Mlp
from phoneme.optim import textbook
from phoneme.optim.textbook import Adagrad, Adam, GradientDescent, Momentum, RMSProp

EXACT = dict(rtol=1e-12, atol=1e-12)
OPTIMIZERS = (GradientDescent, Momentum, Adagrad, RMSProp, Adam)


def network() -> Mlp:
    torch.manual_seed(0)
    return Mlp(coeffs=4, classes=3, context=3, depth=2, width=8, activation="tanh").double()


def train(make, steps: int = 60, factor=None, start=None) -> torch.Tensor:
    """The flat weights after each update of a small network on data of its own: [step, n]."""
    model, generator = network(), torch.Generator().manual_seed(1)
    inputs = torch.randn(steps, 32, 3, 4, dtype=torch.float64, generator=generator)
    targets = torch.randint(3, (steps, 32), generator=generator)
    optimizer = make(model.parameters())
    scheduler = LambdaLR(optimizer, factor or (lambda step: 1.0))
    weights = []
    for x, y in zip(inputs, targets, strict=True):
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        if start is not None and not weights:
            start(optimizer, model)
        optimizer.step()
        scheduler.step()
        weights.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
    return torch.stack(weights)


def steps_of(make, gradients, factors=None) -> list[float]:
    """The movements of a single parameter that meets these gradients, whatever it is."""
    theta = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = make([theta])
    places = [0.0]
    for step, gradient in enumerate(gradients):
        theta.grad = torch.full_like(theta, gradient)
        if factors is not None:
            optimizer.param_groups[0]["lr"] = factors[step]
        optimizer.step()
        places.append(theta.item())
    return [after - before for before, after in pairwise(places)]


# -- where they coincide -----------------------------------------------------------------------------------


def test_gradient_descent_is_torchs():
    ours = train(lambda parameters: GradientDescent(parameters, lr=0.3))
    torch.testing.assert_close(ours, train(lambda parameters: torch.optim.SGD(parameters, lr=0.3)), **EXACT)
    assert (ours[0] - ours[-1]).abs().max() > 0.1


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_momentum_is_torchs_at_a_constant_rate(momentum):
    ours = train(lambda parameters: Momentum(parameters, lr=0.05, momentum=momentum))
    theirs = train(lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=momentum))
    torch.testing.assert_close(ours, theirs, **EXACT)


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.9), (0.5, 0.5)])
def test_adam_is_torchs(betas):
    ours = train(lambda parameters: Adam(parameters, lr=0.01, betas=betas))
    theirs = train(lambda parameters: torch.optim.Adam(parameters, lr=0.01, betas=betas))
    torch.testing.assert_close(ours, theirs, **EXACT)


def test_adam_is_torchs_when_the_rate_changes():
    def factor(step):
        return 0.9**step

    ours = train(lambda parameters: Adam(parameters, lr=0.01), factor=factor)
    torch.testing.assert_close(ours, train(lambda p: torch.optim.Adam(p, lr=0.01), factor=factor), **EXACT)


def test_adagrad_is_torchs_when_the_rate_falls_with_the_root_of_the_updates():
    ours = train(lambda p: Adagrad(p, lr=0.05, eps=1e-12), factor=lambda step: (step + 1) ** -0.5)
    theirs = train(lambda parameters: torch.optim.Adagrad(parameters, lr=0.05, eps=1e-12))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)  # eps is on sigma here, on sqrt(t + 1) sigma there


def test_rmsprop_is_torchs_if_that_starts_from_the_first_gradient():
    def start(optimizer, model):
        for theta in model.parameters():
            square = theta.grad.square()
            optimizer.state[theta] = {"step": torch.tensor(0.0), "square_avg": square}

    ours = train(lambda parameters: RMSProp(parameters, lr=0.01, alpha=0.9))
    theirs = train(lambda parameters: torch.optim.RMSprop(parameters, lr=0.01, alpha=0.9), start=start)
    torch.testing.assert_close(ours, theirs, **EXACT)


def test_adam_without_memory_of_the_direction_is_rmsprop_but_for_the_start():
    """beta1 = 0 leaves g / sigma. The first g^2 weighs alpha^t in one, like the others in the other."""
    gradients = [2.0, -1.0, 0.5, 3.0] + [1.0] * 400
    rmsprop = steps_of(lambda parameters: RMSProp(parameters, lr=1.0, alpha=0.9), gradients)
    adam = steps_of(lambda parameters: Adam(parameters, lr=1.0, betas=(0.0, 0.9)), gradients)
    assert rmsprop[0] == pytest.approx(adam[0], rel=1e-12) == pytest.approx(-1.0, rel=1e-7)
    assert abs(rmsprop[1] - adam[1]) > 0.05
    assert rmsprop[-1] == pytest.approx(adam[-1], rel=1e-12)


# -- and where not -----------------------------------------------------------------------------------------


def test_momentum_has_its_rate_inside_and_torch_outside():
    """The rate falls to a hundredth: what was gained at the old rate goes on here, and is slowed there."""
    rates = [1.0, 0.01, 0.01]
    ours = steps_of(lambda parameters: Momentum(parameters, lr=1.0, momentum=0.5), [1.0, 0.0, 0.0], rates)
    theirs = steps_of(lambda parameters: torch.optim.SGD(parameters, lr=1.0, momentum=0.5), [1.0, 0.0, 0.0], rates)
    assert ours == pytest.approx([-1.0, -0.5, -0.25], rel=1e-12)
    assert theirs == pytest.approx([-1.0, -0.005, -0.0025], rel=1e-12)


def test_adagrad_takes_the_mean_and_torch_the_sum():
    gradients = [3.0, 3.0, 3.0, 3.0]
    ours = steps_of(lambda parameters: Adagrad(parameters, lr=1.0), gradients)
    theirs = steps_of(lambda parameters: torch.optim.Adagrad(parameters, lr=1.0), gradients)
    assert ours == pytest.approx([-1.0] * 4, rel=1e-7)
    assert theirs == pytest.approx([-((t + 1) ** -0.5) for t in range(4)], rel=1e-7)
    mixed = steps_of(lambda parameters: Adagrad(parameters, lr=0.1), [1.0, -2.0, 5.0])
    assert mixed == pytest.approx([-0.1, 0.2 / (5 / 2) ** 0.5, -0.5 / (30 / 3) ** 0.5], rel=1e-7)


def test_rmsprops_first_step_is_the_rate_and_torchs_is_longer():
    ours = steps_of(lambda parameters: RMSProp(parameters, lr=0.1, alpha=0.9), [7.0] * 200)
    theirs = steps_of(lambda parameters: torch.optim.RMSprop(parameters, lr=0.1, alpha=0.9), [7.0] * 200)
    assert ours[0] == pytest.approx(-0.1, rel=1e-7) and theirs[0] == pytest.approx(-0.1 * 10**0.5, rel=1e-7)
    assert ours[-1] == pytest.approx(theirs[-1], rel=1e-7)  # forgotten
    by_hand = steps_of(lambda parameters: RMSProp(parameters, lr=1.0, alpha=0.5), [2.0, 4.0])
    assert by_hand == pytest.approx([-1.0, -4 / 10**0.5], rel=1e-7)


def test_adam_without_bias_correction_starts_too_fast():
    first = steps_of(lambda p: Adam(p, lr=1.0, betas=(0.9, 0.98), bias_correction=False), [5.0] * 1000)
    assert first[0] == pytest.approx(-0.1 / 0.02**0.5, rel=1e-6)
    assert first[-1] == pytest.approx(-1.0, rel=1e-6)
    with_it = steps_of(lambda parameters: Adam(parameters, lr=1.0), [5.0] * 5)
    assert with_it == pytest.approx([-1.0] * 5, rel=1e-7)


@pytest.mark.parametrize("kind", [Adagrad, RMSProp, Adam])
def test_epsilon_is_outside_of_the_root(kind):
    """A gradient of 1e-6: g / (|g| + 1e-8) is 0.99; inside of the root, g / sqrt(g^2 + 1e-8), it would be 0.01."""
    assert steps_of(lambda parameters: kind(parameters, lr=1.0, eps=1e-8), [1e-6]) == pytest.approx([-1 / 1.01])


# -- as optimizers of torch --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_the_state_survives_a_weights_only_checkpoint(kind, tmp_path):
    def descend(optimizer, theta, steps):
        for _ in range(steps):
            theta.grad = torch.tensor([1.0, 10.0]) * theta.detach()
            optimizer.step()

    theta = torch.nn.Parameter(torch.ones(2))
    optimizer = kind([theta], lr=0.01)
    descend(optimizer, theta, 3)
    torch.save({"theta": theta.detach(), "optimizer": optimizer.state_dict()}, tmp_path / "state.pt")
    descend(optimizer, theta, 3)
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    again = torch.nn.Parameter(saved["theta"])
    resumed = kind([again], lr=0.5)
    resumed.load_state_dict(saved["optimizer"])
    descend(resumed, again, 3)
    assert torch.equal(again, theta)


def test_a_closure_and_a_parameter_without_a_gradient():
    used, unused = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))
    optimizer = Momentum([used, unused], lr=0.5)

    def closure():
        optimizer.zero_grad()
        loss = used.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 1.0
    assert used.item() == 0.0 and unused.item() == 1.0


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (GradientDescent, {"lr": 0.0}, r"(?s)a positive learning rate, got 0\.0.*GradientDescent, lr.*hint:"),
        (GradientDescent, {"lr": float("nan")}, r"a positive learning rate, got nan"),
        (Momentum, {"lr": float("inf")}, r"(?s)a positive learning rate, got inf.*Momentum, lr"),
        (Momentum, {"momentum": 1.0}, r"(?s)a share in \[0, 1\), got 1\.0.*Momentum, momentum"),
        (Adagrad, {"eps": 0.0}, r"(?s)a small positive number, got 0\.0.*Adagrad, eps"),
        (RMSProp, {"alpha": -0.1}, r"(?s)a share in \[0, 1\), got -0\.1.*RMSProp, alpha"),
        (Adam, {"betas": (1.5, 0.9)}, r"(?s)a share in \[0, 1\), got 1\.5.*Adam, beta1"),
        (Adam, {"betas": (0.9, 1.0)}, r"(?s)a share in \[0, 1\), got 1\.0.*Adam, beta2"),
        (Adam, {"lr": -1.0}, r"(?s)a positive learning rate, got -1\.0.*Adam, lr"),
    ],
)
def test_refuses(kind, arguments, message):
    with pytest.raises(InputError, match=message):
        kind([torch.nn.Parameter(torch.ones(1))], **{"lr": 0.1, **arguments})


def test_all_of_them_are_tested_here():
    kinds = {kind for _, kind in inspect.getmembers(textbook, inspect.isclass) if issubclass(kind, textbook.Textbook)}
    assert kinds - {textbook.Textbook} == set(OPTIMIZERS)
