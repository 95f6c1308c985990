"""D1 and its surfaces, and a case where it is false."""

import math

import pytest
import torch

from phoneme.lab import perform
from phoneme.lab.experiments.momentum import EXPERIMENT, PLAIN_RATES, STEEP, TRAPS, frequency_entropy
from phoneme.lab.speech import Frames
from tests.lab.helpers import small_bench


@pytest.mark.parametrize(
    ("name", "trapped", "bottom"), [("plateau", -4.0, 0.0), ("saddle", 0.0, 1.0), ("shallow_minimum", -3.90, 0.0)]
)
def test_a_trap_is_flat_above_its_goal_and_its_bottom_is_flat_below(name, trapped, bottom):
    trap = TRAPS[name]
    points = torch.tensor([[trapped, 0.0], [bottom, 0.0]], dtype=torch.float64, requires_grad=True)
    heights = trap(points)
    (slopes,) = torch.autograd.grad(heights.sum(), points)
    assert heights[0] > trap.goal > heights[1]
    assert slopes.abs().max() < 0.05  # at its start it has a slope of 1/2 or more; the saddle starts where it is flat


def test_plain_descent_is_stable_at_its_rates():
    assert max(PLAIN_RATES) * STEEP < 2 < 1.06 * max(PLAIN_RATES) * STEEP


def test_the_loss_of_the_class_frequencies():
    frames = Frames(torch.zeros(4, 1, 1), torch.tensor([0, 0, 2, 3]))
    assert frequency_entropy(frames) == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(4))


def test_it_is_measured():
    answer = perform(EXPERIMENT, small_bench(), steps=60, rolled=600)
    rulings = {ruling["effect"]: ruling for ruling in answer["rows"]["D1"]["rulings"]}
    assert all(math.isfinite(value) for ruling in rulings.values() for value in ruling["values"])
    assert all(rulings[name]["verdict"] == "holds" for name in TRAPS)  # closed forms: whatever the budget


def test_with_a_momentum_of_0_it_is_plain_descent():
    answer = perform(EXPERIMENT, small_bench(), steps=60, rolled=300, momentum=0.0)
    assert answer["rows"]["D1"]["verdict"] == "does not hold"
