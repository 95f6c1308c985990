import json
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from phoneme.curvature.escape import escape
from phoneme.curvature.hvp import HessianProducts
from phoneme.curvature.lanczos import lanczos
from phoneme.curvature.objective import Objective
from phoneme.errors import InputError
from phoneme.losses import cross_entropy
from tests.curvature.surfaces import CLASSES, rotated
from tests.curvature.test_taylor import surface, unit


def product_of_weights():
    """The lecture's y = w1 w2 x with one datum (1, 1): L = (1 - w1 w2)^2, a saddle at the origin with lambda = +-2."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)).double()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    return Objective(model, F.mse_loss, [(torch.ones(1, 1), torch.ones(1, 1))])


def zero_tanh_network(seed: int, rows: int = 40):
    """Hidden weights 0 and the output bias at the classes' shares: the gradient is 0, and it is a saddle."""
    generator = torch.Generator().manual_seed(seed)
    inputs, targets = torch.randn(rows, 3, generator=generator), torch.arange(rows) % CLASSES
    model = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, CLASSES))
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    halves = [(inputs[::2], targets[::2]), (inputs[1::2], targets[1::2])]
    second = [(torch.randn(rows, 3, generator=generator) + inputs, targets)]
    return [Objective(model, cross_entropy, batches, dtype=torch.float64) for batches in (halves, second)]


def rotated_quartic(seed: int):
    """A random quadratic with a cubic and a quartic term that closes it."""
    generator = torch.Generator().manual_seed(seed)
    matrix = rotated(torch.tensor([-1.0, -0.3, 0.2, 1.0, 4.0]), seed)
    tilt = torch.randn(5, generator=generator, dtype=torch.float64)
    return surface(lambda x: 0.5 * x @ matrix @ x + 0.3 * (tilt * x**3).sum() + (x**4).sum() + 3, [0.0] * 5)


SADDLES = [product_of_weights]
SADDLES += [lambda seed=seed: zero_tanh_network(seed)[0] for seed in range(4)]
SADDLES += [lambda seed=seed: rotated_quartic(seed) for seed in range(4)]


@pytest.mark.parametrize("planted", SADDLES)
def test_at_every_saddle_the_loss_falls_within_a_fifth_of_what_taylor_says(planted):
    objective = planted()
    assert objective.gradient().norm() < 1e-12
    pair = lanczos(HessianProducts(objective), tolerance=1e-9).bottom[0]
    assert pair.value < -pair.bound
    found = escape(objective, pair.vector, pair.value)
    assert found.lowered and found.radius > 0
    assert found.predicted == pytest.approx(-pair.value * found.radius**2 / 2, rel=1e-6)
    for share in (0.1, 0.5, 1.0):
        radius = share * found.radius
        measured = objective.value() - objective.at(objective.point + radius * found.direction).value()
        assert measured == pytest.approx(-pair.value * radius**2 / 2, rel=0.2)
    assert found.measured == pytest.approx(measured) and measured > 0
    assert found.best_measured >= found.measured
    for best, decrease in ((True, found.best_measured), (False, found.measured)):
        there = objective.at(found.point(objective, best)).value()
        assert objective.value() - there == pytest.approx(decrease, rel=1e-9)


def test_the_lecture_s_saddle_is_left_along_the_diagonal_to_the_minimum():
    """Along (1, 1) / sqrt 2 the loss is (1 - t^2 / 2)^2: the change -t^2 + t^4 / 4, the minimum 0 at t = sqrt 2."""
    objective = product_of_weights()
    found = escape(objective, torch.tensor([1.0, 1.0]) / math.sqrt(2), -2.0)
    assert found.direction.abs().tolist() == pytest.approx([0.5**0.5] * 2)
    assert 0.9 * 0.8**0.5 < found.radius <= 0.8**0.5  # t^4 / 4 is a fifth of t^2
    assert found.best_radius == pytest.approx(math.sqrt(2), rel=0.02)
    assert found.best_measured == pytest.approx(1.0, abs=2e-3)
    assert found.point(objective).prod().item() == pytest.approx(1.0, abs=0.04)


def test_the_gradient_chooses_the_side_and_the_loss_does_where_there_is_none():
    for slope in (0.3, -0.3):
        objective = surface(lambda x, s=slope: s * x[0] - x[0] ** 2 + x[0] ** 4, [0.0])
        found = escape(objective, unit(1, 0), -2.0)
        assert found.sign == -math.copysign(1, slope) and found.direction.item() == found.sign
        assert found.predicted == pytest.approx(0.3 * found.radius + found.radius**2)
    for cubic in (0.5, -0.5):
        objective = surface(lambda x, c=cubic: c * x[0] ** 3 - x[0] ** 2 + x[0] ** 4, [0.0])
        assert escape(objective, unit(1, 0), -2.0).sign == -math.copysign(1, cubic)


def test_the_second_data_are_measured_and_have_no_say():
    first, second = zero_tanh_network(0)
    pair = lanczos(HessianProducts(first), tolerance=1e-9).bottom[0]
    alone, both = escape(first, pair.vector, pair.value), escape(first, pair.vector, pair.value, second=second)
    assert alone.best_radius == both.best_radius and alone.second_measured is None
    for best, found in ((False, both.second_measured), (True, both.best_second_measured)):
        there = second.at(both.point(first, best)).value()
        assert found == pytest.approx(second.value() - there, rel=1e-9) and found > 0


def test_an_unbounded_descent_ends_where_the_search_ends():
    objective = surface(lambda x: x[1] ** 2 - x[0] ** 2, [0.0, 0.0])
    found = escape(objective, unit(2, 0), -2.0)
    assert found.best_radius == pytest.approx(10, rel=0.02) and found.radius == pytest.approx(10)


def test_a_narrow_descent_is_found_by_halving():
    objective = surface(lambda x: -(x[0] ** 2) + 1e12 * x[0] ** 4 + 1, [0.0])
    found = escape(objective, unit(1, 0), -2.0)
    assert found.best_radius == pytest.approx((0.5e-12) ** 0.5, rel=0.02)
    assert found.best_measured == pytest.approx(0.25e-12, rel=0.01)


def test_no_descent_is_no_success():
    objective = surface(lambda x: x[0] ** 2, [0.0])
    found = escape(objective, unit(1, 0), -2.0)  # a witness that is none
    assert not found.lowered
    answer = found.to_dict()
    assert {key for key, value in answer.items() if value is None} == set(answer) - {"sign", "lowered"}
    for best, message in ((True, r"(?s)got none: the loss falls nowhere.*hint: look at `lowered`"), (False, "Taylor")):
        with pytest.raises(InputError, match=message):
            found.point(objective, best)


def test_a_loss_that_ends_in_nan_is_not_gone_to():
    objective = surface(lambda x: -(x[0] ** 2) + 0 * (1 - x[0].abs()).log(), [0.0])
    found = escape(objective, unit(1, 0), -2.0)
    assert 0.9 < found.best_radius < 1 and found.lowered
    json.dumps(found.to_dict(), allow_nan=False)


def test_refuses():
    objective = product_of_weights()
    with pytest.raises(InputError, match=r"(?s)direction of negative curvature, got 2\.0.*follow the gradient"):
        escape(objective, unit(2, 0), 2.0)
    with pytest.raises(InputError, match=r"(?s)over the same parameters, got 52 parameters, the first has 2.*second"):
        escape(objective, unit(2, 0), -2.0, second=zero_tanh_network(0)[1])
