"""E4, and a case where it is false."""

import math
from itertools import pairwise

from phoneme.lab import perform
from phoneme.lab.experiments.warm_up import EXPERIMENT, SEEN
from tests.lab.helpers import small_bench


def rulings(**conditions) -> dict[str, dict]:
    answer = perform(EXPERIMENT, small_bench(), steps=30, rates=(0.03,), **conditions)
    found = {ruling["effect"]: ruling for ruling in answer["rows"]["E4"]["rulings"]}
    assert all(math.isfinite(value) for ruling in found.values() for value in ruling["values"])
    known = answer["numbers"]["disagreement_about_sigma"]
    assert all(min(known[str(a)]) > max(known[str(b)]) for a, b in pairwise((SEEN[0], SEEN[3], SEEN[-1])))
    return found


def test_it_is_measured_and_sigma_becomes_certain():
    assert rulings()["early_sigma"]["verdict"] == "holds"


def test_a_warm_up_of_one_update_changes_nothing():
    found = rulings(warm_up=1)["warm_up"]
    assert found["values"] == [0.0] * 3 and found["verdict"] == "does not hold"
