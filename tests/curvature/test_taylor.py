import json
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from phoneme.curvature.hvp import HessianProducts
from phoneme.curvature.lanczos import lanczos
from phoneme.curvature.objective import Objective
from phoneme.curvature.taylor import Line, error_order, taylor, trusted_radius
from phoneme.errors import InputError
from phoneme.losses import cross_entropy
from tests.curvature.surfaces import network, ragged_batches


class Vector(nn.Module):
    """A function of a vector, as a model whose output is the loss."""

    def __init__(self, function, point):
        super().__init__()
        self.theta, self.function = nn.Parameter(torch.tensor(point, dtype=torch.float64)), function

    def forward(self, _):
        return self.function(self.theta)


def surface(function, point):
    """The objective that is this function of its parameters."""
    return Objective(Vector(function, point), lambda value, _: (value, 1), [(torch.zeros(1), torch.zeros(1))])


def unit(size, index):
    return torch.eye(size, dtype=torch.float64)[index]


def smooth():
    """A tanh network away from symmetry, with its two extreme eigenpairs."""
    objective = Objective(network(), cross_entropy, ragged_batches(), dtype=torch.float64)
    found = lanczos(HessianProducts(objective), tolerance=1e-10)
    return objective, found.bottom[0], found.top[0]


def test_a_quadratic_is_its_own_taylor_model():
    bend = torch.tensor([3.0, -1.0, 0.5], dtype=torch.float64)
    objective = surface(lambda x: 0.5 * (bend * x * x).sum() + x[0] + 2, [0.1, 0.2, 0.3])
    for index in range(3):
        v = unit(3, index)
        found = taylor(objective, v, name="axis", curvature=bend[index].item())
        assert found.predicted == pytest.approx(found.measured, rel=1e-13)
        assert found.trusted_radius == pytest.approx(10.0)  # as far as is searched
        line = Line(objective, v, bend[index].item())
        assert line.slope == pytest.approx(bend[index].item() * objective.point[index].item() + (index == 0))
        assert error_order(line, 1.0) is None


def test_the_trusted_radius_of_a_cubic_is_where_the_cubic_is_a_fifth_of_the_quadratic():
    """a t^2 / 2 + b t^3: the error is b t^3, so t = 0.1 a / b; the last doubling is halved thrice: to 9 %."""
    for a, b in ((1.0, 1.0), (-2.0, 0.01), (0.1, -5.0), (4.0, 1e-2)):
        objective = surface(lambda x, a=a, b=b: 1 + a / 2 * x[0] ** 2 + b * x[0] ** 3, [0.0])
        line = Line(objective, unit(1, 0), a)
        exact = min(0.1 * abs(a / b), 10.0)
        found = trusted_radius(line)
        assert exact / 1.1 < found <= exact * (1 + 1e-9)
        assert error_order(line, found) == pytest.approx(3, abs=0.01)


def test_the_error_grows_as_the_cube_of_the_step():
    """Claim B3 of the lecture, on a network; the fourth order bends the line a little."""
    objective, low, high = smooth()
    for pair in (low, high):
        line = Line(objective, pair.vector, pair.value)
        assert error_order(line, 0.1 * trusted_radius(line)) == pytest.approx(3, abs=0.1)


def test_a_symmetric_surface_has_errors_of_fourth_order_and_a_wrong_curvature_of_second():
    objective = surface(lambda x: 1 - x[0] ** 2 + x[0] ** 4, [0.0])
    assert error_order(Line(objective, unit(1, 0), -2.0), 0.5) == pytest.approx(4, abs=1e-3)
    assert error_order(Line(objective, unit(1, 0), -2.1), 0.05) == pytest.approx(2, abs=0.1)
    assert trusted_radius(Line(objective, unit(1, 0), -1.0)) is None  # wrong by a factor 2


def test_default_radii_show_where_taylor_ends():
    objective, low, high = smooth()
    for pair in (low, high):
        found = taylor(objective, pair.vector, name="lambda", curvature=pair.value)
        trusted, base = found.trusted_radius, objective.value()
        assert len(found.radii) == 21 and found.radii[10] == 0 and found.measured[10] == base
        assert found.radii == tuple(-t for t in reversed(found.radii))
        assert found.radii[-1] == pytest.approx(2.5 * trusted)
        missed = []
        for t, predicted, measured in zip(found.radii, found.predicted, found.measured, strict=True):
            scale = abs(t * found.slope) + t * t / 2 * abs(found.curvature)
            assert predicted == pytest.approx(base + t * found.slope + t * t / 2 * found.curvature, rel=1e-12)
            if abs(t) <= trusted:
                assert abs(measured - predicted) <= 0.2 * scale
            elif abs(measured - predicted) > 0.2 * scale:
                missed.append(t)
        assert missed


def test_the_slope_may_be_given_and_radii_chosen():
    objective = surface(lambda x: (x[0] + 1).square() + 0 * x[1], [0.0, 0.0])
    found = taylor(objective, unit(2, 0), name="x", curvature=2, slope=2, radii=[-1, 0, 2])
    assert found.radii == (-1.0, 0.0, 2.0)
    assert found.predicted == pytest.approx((0.0, 1.0, 9.0)) and found.measured == pytest.approx((0.0, 1.0, 9.0))


def test_no_radius_can_be_trusted_at_a_kink_or_below_rounding_or_on_a_plain():
    kink = surface(lambda x: x[0].abs() + 1, [0.0])
    assert trusted_radius(Line(kink, unit(1, 0), 1.0, 0.0)) is None
    plain = surface(lambda x: 0 * x[0] + 1, [0.0])
    found = taylor(plain, unit(1, 0), name="flat", curvature=0.0)
    assert found.trusted_radius is None and found.radii[-1] == 0.01
    faint = surface(lambda x: 1e6 + 1e-12 * x[0] ** 2, [0.0])
    assert Line(faint, unit(1, 0), 2e-12).least_radius > 10
    assert trusted_radius(Line(faint, unit(1, 0), 2e-12)) is None


def test_single_precision_trusts_what_it_can_see():
    model, batches = network(), ragged_batches()
    objective, low, _ = smooth()
    single = Objective(model, cross_entropy, batches)
    exact, rough = (trusted_radius(Line(each, low.vector, low.value)) for each in (objective, single))
    assert rough == pytest.approx(exact, rel=0.2)


def test_losses_that_are_not_finite_are_none_in_json():
    objective = surface(lambda x: x[0].exp(), [0.0])
    found = taylor(objective, unit(1, 0), name="exp", curvature=1.0, radii=[0.0, 1000.0])
    assert math.isinf(found.measured[1])
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["measured"] == [1.0, None]
    assert set(found.to_dict()) == {
        "direction",
        "slope",
        "curvature",
        "radii",
        "predicted",
        "measured",
        "trusted_radius",
    }


@pytest.mark.parametrize(
    ("direction", "message"),
    [
        (torch.ones(3), r"(?s)flat vector of 2 finite numbers, got shape \[3\].*direction.*selection\.flatten"),
        (torch.tensor([1.0, math.nan]), r"(?s)2 finite numbers, got shape \[2\], 1 of them not finite"),
        (torch.tensor([1.0, 1.0]), r"(?s)direction of length 1, got one of length 1\.41421.*divide it by its norm"),
    ],
)
def test_refuses(direction, message):
    objective = Objective(nn.Linear(1, 1), F.mse_loss, [(torch.ones(2, 1), torch.ones(2, 1))])
    with pytest.raises(InputError, match=message):
        taylor(objective, direction, name="v", curvature=1.0)
