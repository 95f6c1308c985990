import json
import math

import pytest
import torch
from torch import nn

from phoneme.curvature.hvp import HessianProducts
from phoneme.curvature.inertia import dense
from phoneme.curvature.lanczos import Matrix, lanczos
from phoneme.curvature.objective import Objective
from phoneme.curvature.parameters import select
from phoneme.curvature.sharpness import Preconditioned, bouncing, preconditioner, sharpness, stability
from phoneme.errors import InputError
from phoneme.losses import cross_entropy
from phoneme.optim import make_optimizer
from tests.curvature.surfaces import Dense, brute_force, network, ragged_batches, rotated
from tests.curvature.test_taylor import Vector, surface

EIGENVALUES = torch.tensor([5.0, 2.0, 1.0, 0.3])
SQUARES = torch.tensor([1.0, 0.3, 2.0, 0.6], dtype=torch.float64)  # a second moment, frozen
STEP = 4  # early, so that Adam's corrections of its start count
TINY = 1e-9  # the parameters: their gradients add nothing to SQUARES

OPTIMIZERS = {
    "descent": (torch.optim.SGD, {}),
    "decayed descent": (torch.optim.SGD, {"weight_decay": 1.0}),
    "momentum": (torch.optim.SGD, {"momentum": 0.9}),
    "dampened momentum": (torch.optim.SGD, {"momentum": 0.8, "dampening": 0.5}),
    "nesterov": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.5}),
    "adam": (torch.optim.Adam, {"eps": 0.1}),
    "adam, other betas": (torch.optim.Adam, {"betas": (0.7, 0.95)}),
    "decayed adam": (torch.optim.Adam, {"weight_decay": 1.0}),
    "amsgrad": (torch.optim.Adam, {"amsgrad": True}),
    "adamw": (torch.optim.AdamW, {"weight_decay": 0.003}),
    "rmsprop": (torch.optim.RMSprop, {"eps": 0.1, "weight_decay": 0.5}),
    "rmsprop with momentum": (torch.optim.RMSprop, {"momentum": 0.9}),
    "centred rmsprop": (torch.optim.RMSprop, {"centered": True}),
    "adagrad": (torch.optim.Adagrad, {"lr_decay": 0.1, "weight_decay": 0.5, "eps": 0.1}),
}


def quadratic():
    """A bowl in directions that are not the parameters' own."""
    matrix = rotated(EIGENVALUES)
    return Vector(lambda x: 0.5 * x @ matrix @ x, [TINY] * 4)


def bowl(model):
    return Objective(model, lambda value, _: (value, 1), [(torch.zeros(1), torch.zeros(1))])


def freeze(optimizer, parameter, about_to_step):
    """Set the state to SQUARES at STEP, or to what the next step turns into that: it shrinks, then adds nothing."""
    state, group = optimizer.state[parameter], optimizer.param_groups[0]
    shrink = group["betas"][1] if "betas" in group else group.get("alpha", 1.0)
    scale = 1 / shrink if about_to_step else 1.0
    for key in ("exp_avg_sq", "square_avg", "sum"):
        if key in state:
            state[key].copy_(scale * SQUARES)
    if "max_exp_avg_sq" in state:
        state["max_exp_avg_sq"].copy_(SQUARES)
    if "grad_avg" in state:
        state["grad_avg"].copy_(scale * SQUARES.sqrt() / 2)
    if "step" in state:
        state["step"].fill_(STEP - about_to_step)


def step(optimizer, model):
    model.theta.grad = torch.autograd.grad(model(None), model.theta)[0]
    optimizer.step()


def growth(optimizer, model):
    """Of the parameters from the 40th to the 80th step with the preconditioner frozen, a share of the size at 40."""
    with torch.no_grad():
        model.theta.copy_(TINY * torch.tensor([1.0, -2.0, 3.0, 1.5]))
    for key in ("exp_avg", "momentum_buffer"):
        if key in optimizer.state[model.theta]:
            optimizer.state[model.theta][key].zero_()
    sizes = []
    for _ in range(80):
        freeze(optimizer, model.theta, about_to_step=True)
        step(optimizer, model)
        sizes.append(model.theta.detach().norm().item())
    freeze(optimizer, model.theta, about_to_step=False)
    return sizes[79] / sizes[39]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_threshold_divides_convergence_from_divergence(name):
    """Simulated with torch's own optimizers: 1 % below the threshold they converge, 1 % above they diverge."""
    kind, options = OPTIMIZERS[name]
    model = quadratic()
    optimizer = kind(model.parameters(), lr=1e-12, **options)
    step(optimizer, model)
    freeze(optimizer, model.theta, about_to_step=False)

    def ratio(lr):
        optimizer.param_groups[0]["lr"] = lr
        return sharpness(bowl(model), optimizer, tolerance=1e-10).ratio

    for wanted, diverges in ((0.99, False), (1.01, True)):
        low, high = 1e-3, 500.0
        for _ in range(20):
            middle = math.sqrt(low * high)
            low, high = (middle, high) if ratio(middle) < wanted else (low, middle)
        assert ratio(low) == pytest.approx(wanted, rel=1e-4)
        assert (growth(optimizer, model) > 1) == diverges


def test_the_face_is_that_of_a_matrix_and_the_products_those_of_brute_force():
    matrix, scale, shift = rotated(EIGENVALUES), SQUARES.rsqrt(), torch.arange(4.0)
    found = Preconditioned(Dense(matrix), scale, shift)
    expected = torch.diag(scale) @ (matrix + torch.diag(shift.double())) @ torch.diag(scale)
    assert isinstance(found, Matrix)
    torch.testing.assert_close(dense(found)[0], expected, rtol=1e-13, atol=1e-13)
    assert torch.equal(dense(Preconditioned(Dense(matrix)))[0], matrix)


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "adamw", "rmsprop", "adagrad"])
def test_a_network_after_some_steps_of_a_real_optimizer(name):
    model, batches = network().eval(), ragged_batches()
    optimizer = make_optimizer(
        model.parameters(), name=name, lr=0.01, **({} if name == "sgd" else {"weight_decay": 0.1})
    )
    for _ in range(3):
        optimizer.zero_grad()
        cross_entropy(model(batches[1][0]), batches[1][1]).backward()
        optimizer.step()
    # The objective's own weight decay is replaced by the optimizer's.
    objective = Objective(model, cross_entropy, batches, dtype=torch.float64, weight_decay=7.0)
    found = sharpness(objective, optimizer, tolerance=1e-8)
    decay = 0.0 if name in ("sgd", "adamw") else 0.1
    _, _, hessian = brute_force(model, batches, weight_decay=decay)
    p = torch.ones(len(hessian), dtype=torch.float64)
    if name in ("adam", "adamw"):
        v = torch.cat([optimizer.state[q]["exp_avg_sq"].double().flatten() for q in model.parameters()])
        p = (1 - 0.9**3) * ((v / (1 - 0.999**3)).sqrt() + 1e-8) * (1 - 0.01 * 0.1 / 2 if name == "adamw" else 1)
    elif name != "sgd" and name != "momentum":
        key, eps = ("square_avg", 1e-8) if name == "rmsprop" else ("sum", 1e-10)
        p = torch.cat([optimizer.state[q][key].double().flatten() for q in model.parameters()]).sqrt() + eps
    expected = torch.linalg.eigvalsh(hessian / (p[:, None] * p).sqrt())[-1].item()
    assert found.value == pytest.approx(expected, rel=1e-5) and found.bound < 1e-6 * found.value
    threshold = {"sgd": 200, "momentum": 380, "adam": 3800, "adamw": 3800, "rmsprop": 200, "adagrad": 200}[name]
    assert found.threshold == pytest.approx(threshold) and found.lr == 0.01
    assert found.ratio == found.value / found.threshold
    assert found.preconditioned == (name not in ("sgd", "momentum"))
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_curvature_that_is_known_needs_no_product():
    objective = Objective(network(), cross_entropy, ragged_batches())
    optimizer = torch.optim.SGD(objective.model.parameters(), lr=0.5)
    pair = lanczos(HessianProducts(objective), bottom=0, tolerance=1e-2).top[0]
    known = stability(pair.value, pair.bound, preconditioner(optimizer, objective.model, objective.selection))
    assert known == sharpness(objective, optimizer)
    assert (known.optimizer, known.threshold, known.preconditioned) == ("SGD", 4.0, False)


def test_some_parameters_several_groups_and_a_rate_in_a_tensor():
    model = network()
    weights = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": others, "weight_decay": 0.0}, {"params": weights, "weight_decay": 0.2, "eps": 1.0}]
    optimizer = torch.optim.Adam(groups, lr=torch.tensor(0.25))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    model(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    selection = select(model, ["0.*", "7.weight"])
    found = preconditioner(optimizer, model, selection)
    assert found.threshold == pytest.approx(38 / 0.25) and found.lr == 0.25
    assert [part.unique().tolist() for part in selection.split(found.decay)] == [[0.2], [0.0], [0.2]]
    scale = selection.split(found.scale)
    for name, part, decay, eps in zip(selection.names, scale, (0.2, 0.0, 0.2), (1.0, 1e-8, 1.0), strict=True):
        gradient = dict(model.named_parameters())[name].grad + decay * before[name]
        torch.testing.assert_close(part, (0.1 * (gradient.double().abs() + eps)).rsqrt(), rtol=1e-3, atol=0)


def refused(model, optimizer, message, selection=None):
    with pytest.raises(InputError, match=message):
        preconditioner(optimizer, model, selection or select(model))


def test_refuses_optimizers():
    model = nn.Linear(3, 2)
    both = [{"params": [model.weight]}, {"params": [model.bias], "lr": 0.2}]
    adam = torch.optim.Adam
    refused(model, torch.optim.NAdam(model.parameters()), r"(?s)SGD, Adam, AdamW, RMSprop, Adagrad, got NAdam")
    refused(model, adam(model.parameters()), r"(?s)state of Adam after a step, got none for weight.*take a step first")
    refused(model, torch.optim.Adagrad(model.parameters()), r"(?s)state of Adagrad after a step, got none for weight")
    refused(model, adam(both, lr=0.1), r"(?s)one lr for all parameter groups, got \[0\.1, 0\.2\]")
    refused(model, torch.optim.SGD(both[:1], lr=0.1), r"(?s)a parameter of the SGD, got bias.*leave it out")
    refused(model, torch.optim.SGD(model.parameters(), lr=0.1, maximize=True), r"(?s)goes downhill, got maximize=True")
    blind = adam(model.parameters(), eps=0.0)
    (0 * model(torch.ones(1, 3)).sum()).backward()
    blind.step()
    refused(model, blind, r"(?s)a positive preconditioner, got zeros in it.*eps above 0")


def descended(rate):
    """Two successive iterates of gradient descent on x^2 / 2 + 10 from x = 3, at the rate `rate`."""
    objective = surface(lambda x: 0.5 * x[0] ** 2 + 10, [3.0])
    return objective, objective.point, objective.point * (1 - rate)


@pytest.mark.parametrize(
    ("rate", "bounces"),
    [(0.5, False), (1.0, False), (1.55, False), (1.65, True), (1.9, True), (2.05, True), (2.7, False)],
)
def test_descent_bounces_between_the_walls_near_its_threshold(rate, bounces):
    found = bouncing(*descended(rate))
    assert found.bouncing == bounces
    bottom = 1 / rate  # as a share of the step
    assert found.share == pytest.approx(4 * min(bottom, 1 - bottom) - 1)
    assert found.distance == pytest.approx(3 * rate)
    assert found.gain == pytest.approx(min(found.before, found.after) - found.middle)


def test_a_slope_a_hill_and_a_pair_that_does_not_move_are_no_bouncing():
    objective = surface(lambda x: x[0] + 5, [0.0])
    for function, ends in (
        (lambda x: x[0] + 5, (1.0, 0.0)),
        (lambda x: x[0].exp(), (1.0, -1.0)),
        (lambda x: 5 - x[0] ** 2, (1.0, -1.0)),
        (lambda x: 5 + x[0] ** 2, (1.0, 1.0)),
        (lambda x: 5 + x[0] ** 2, (1e-9, -1e-9)),  # bends up, but below rounding
    ):
        objective = surface(function, [0.0])
        found = bouncing(objective, *(torch.tensor([end], dtype=torch.float64) for end in ends))
        assert not found.bouncing


def test_noise_around_one_point_in_single_precision_is_no_bouncing():
    objective = Objective(network(), cross_entropy, ragged_batches())
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        pair = [objective.point + 1e-5 * torch.randn(objective.size, generator=generator) for _ in range(2)]
        assert not bouncing(objective, *pair).bouncing


def test_losses_out_of_range_are_no_bouncing_and_none_in_json():
    objective = surface(lambda x: x[0].exp(), [0.0])
    found = bouncing(objective, objective.point, objective.point + 2000)
    assert math.isinf(found.after) and found.share is None and not found.bouncing
    answer = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert answer["after"] is None and answer["before"] == 1.0


def test_bouncing_refuses_points_of_another_size():
    objective = surface(lambda x: x[0] ** 2, [0.0])
    with pytest.raises(InputError, match=r"(?s)flat vector of 1 finite numbers, got shape \[2\]"):
        bouncing(objective, torch.zeros(1), torch.zeros(2))
