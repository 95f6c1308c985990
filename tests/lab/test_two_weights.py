"""B5 in closed form, and another function, of which it is not true."""

import pytest
import torch
import torch.nn.functional as F

from phoneme.curvature.objective import Objective
from phoneme.lab import perform
from phoneme.lab.experiments.two_weights import EXPERIMENT, RATE, TwoWeights, descend_from
from tests.lab.helpers import small_bench, verdicts


def surface(combine):
    one = torch.ones(1, 1, dtype=torch.float64)
    return Objective(TwoWeights(combine), F.mse_loss, [(one, one)])


def test_a_step_of_descent_is_that_of_the_closed_form():
    """dL/dw1 = -2 (1 - w1 w2) w2."""
    start = torch.tensor([[0.3, -0.2]], dtype=torch.float64)
    path = descend_from(surface("product"), start, steps=1)
    factor = RATE * 2 * (1 - 0.3 * -0.2)
    assert path[1, 0].tolist() == pytest.approx([0.3 + factor * -0.2, -0.2 + factor * 0.3])


def test_it_holds():
    answer = perform(EXPERIMENT, small_bench())
    assert answer["rows"]["B5"]["verdict"] == "holds"
    assert answer["numbers"]["verdict_at_origin"] == "saddle"
    assert answer["numbers"]["hessian"] == [[0, -2], [-2, 0]]
    kinds = [mark["kind"] for mark in answer["pictures"][0]["panels"][0]["marks"]]
    assert kinds[:3] == ["surface", "path", "path"]


def test_a_sum_of_the_weights_has_no_saddle():
    assert verdicts(EXPERIMENT, small_bench(), combine="sum", steps=300)["B5"] in ("holds partly", "does not hold")
