"""E5, and a case where it is false."""

import math

import pytest
import torch

from phoneme.lab import perform
from phoneme.lab.experiments.direction_and_size import (
    EXPERIMENT,
    Recorder,
    quotients,
    settled_step,
    with_signs,
)
from tests.lab.helpers import small_bench


@pytest.mark.parametrize("beta1", [0.0, 0.5, 0.9])
def test_the_steps_in_closed_form(beta1):
    assert settled_step((1,), 1e-3, beta1) == pytest.approx(1.0, rel=1e-9)
    assert settled_step((1, -1), 1e3, beta1) == pytest.approx((1 - beta1) / (1 + beta1), rel=1e-9)


def test_other_signs_leave_the_sizes():
    gradients = torch.randn(6, 3, dtype=torch.float64)
    for signs, turns in {"one_sign": [1, 1, 1, 1, 1, 1], "alternating": [1, -1, 1, -1, 1, -1]}.items():
        turned = with_signs(gradients, signs)
        assert torch.equal(turned.abs(), gradients.abs())
        assert torch.equal(turned.sign(), torch.tensor(turns).double()[:, None].expand(6, 3))
    assert torch.equal(with_signs(gradients, "own"), gradients)


def test_the_quotient_is_that_of_torchs_adam():
    gradients = torch.randn(7, 4, dtype=torch.float64)
    theta = torch.nn.Parameter(torch.zeros(4, dtype=torch.float64))
    optimizer = torch.optim.Adam([theta], lr=1.0)
    for row in gradients:
        before = theta.detach().clone()
        theta.grad = row
        optimizer.step()
    torch.testing.assert_close(quotients(gradients, 0.9)[-1], (theta.detach() - before).abs(), rtol=1e-6, atol=1e-6)


def test_dead_units_are_left_out():
    model = torch.nn.Linear(2, 1)
    recorder = Recorder(model, seed=0)
    for step in range(3):
        model.weight.grad, model.bias.grad = torch.tensor([[0.0, 1.0 + step]]), torch.tensor([-2.0])
        recorder.look(step)
    assert sorted(recorder.gradients()[2].tolist()) == [-2.0, 3.0]


def rulings(**conditions) -> dict[str, str]:
    answer = perform(EXPERIMENT, small_bench(), steps=40, **conditions)
    found = answer["rows"]["E5"]["rulings"]
    assert all(math.isfinite(value) for ruling in found for value in ruling["values"])
    return {ruling["effect"]: ruling["verdict"] for ruling in found}


def test_it_is_measured():
    found = rulings()
    assert found["one_sign"] == found["alternating"] == "holds" and found["direction"] != "does not hold"


def test_without_momentum_nothing_keeps_the_direction():
    found = rulings(beta1=0.0)
    assert found["alternating"] == found["direction"] == "does not hold"
