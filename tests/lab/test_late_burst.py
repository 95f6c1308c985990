"""E3, and cases where it is false."""

import math

import pytest
import torch

from phoneme.lab import perform
from phoneme.lab.experiments.late_burst import EXPERIMENT, burst_of
from tests.lab.helpers import small_bench


def test_a_burst_is_what_comes_after_the_floor():
    across = torch.tensor([[2.0, 1.0, 1.0], [3.0, 0.5, 0.001], [0.01, 0.2, -0.3], [-1.0, 0.1, 0.0]]).double()
    found = burst_of(across).tolist()
    assert found[0] == 0.5 and found[2] == pytest.approx(0.3)
    assert math.isnan(found[1])  # never on the floor: nothing can be said


def rulings(**conditions) -> dict[str, str]:
    answer = perform(EXPERIMENT, small_bench(), rolled=1000, **conditions)
    return {ruling["effect"]: ruling["verdict"] for ruling in answer["rows"]["E3"]["rulings"]}


def test_it_holds():
    assert rulings() == dict.fromkeys(("adagrad", "adagrad_decayed", "rmsprop", "rmsprop_decayed"), "holds")


def test_a_rate_that_does_not_fall_tames_nothing():
    found = rulings(decay=lambda step: 1.0)
    assert found["adagrad_decayed"] == found["rmsprop_decayed"] == "does not hold"


def test_at_a_small_rate_the_burst_would_come_much_later():
    assert rulings(rate=0.02)["adagrad"] == "does not hold"
