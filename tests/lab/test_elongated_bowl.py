"""E2, and bowls for which it is false."""

import math

import torch

from phoneme.lab import perform
from phoneme.lab.experiments.elongated_bowl import EXPERIMENT, bowl, measure
from tests.lab.helpers import small_bench, verdicts


def test_a_bowl_has_its_curvatures_along_its_axes():
    height = bowl(100.0, 30.0)
    axis = torch.tensor([math.cos(math.pi / 6), math.sin(math.pi / 6)], dtype=torch.float64)
    across = torch.tensor([-axis[1], axis[0]])
    torch.testing.assert_close(height(torch.stack([axis, across])), torch.tensor([0.5, 50.0]).double())


def test_it_holds_as_far_as_so_few_updates_can_tell():
    answer = perform(EXPERIMENT, small_bench(), rolled=1000)
    found = {ruling["effect"]: ruling["verdict"] for ruling in answer["rows"]["E2"]["rulings"]}
    assert found["adam"] == "holds" and found["rmsprop"] == "undecided" and found["adagrad"] != "does not hold"
    assert min(answer["numbers"]["updates"]["bowl"]["plain"]) == 1001  # it never arrives


def test_plain_descent_in_a_round_bowl_needs_no_sigma():
    assert verdicts(EXPERIMENT, small_bench(), condition=1.0, rolled=300) == {"E2": "does not hold"}


def test_sigma_does_not_help_across_the_parameters():
    turned = measure(small_bench(), angle=45.0, rolled=300)
    assert turned.numbers["updates"]["bowl"] == turned.numbers["updates"]["turned"]
    assert verdicts(EXPERIMENT, small_bench(), angle=45.0, rolled=300)["E2"] != "holds"
