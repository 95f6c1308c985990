"""A1, and cases where it is false."""

import math

import torch

from phoneme.lab import perform, score
from phoneme.lab.experiments.shallow_deep import EXPERIMENT, SHALLOW, deepened
from tests.lab.helpers import small_bench


def verdicts_of_rules(**conditions) -> dict[str, str]:
    answer = perform(EXPERIMENT, small_bench(), **conditions)
    return {ruling["effect"]: ruling["verdict"] for ruling in answer["rows"]["A1"]["rulings"]}


def test_a_deep_network_can_be_the_shallow_one():
    bench = small_bench()
    shallow, deep = bench.model(0, depth=2), bench.model(1, depth=9)
    frames = bench.speech.val(500, 0)
    with torch.no_grad():
        assert not torch.allclose(shallow(frames.inputs), deep(frames.inputs), atol=1e-3)
        copy = deepened(shallow, deep)
        assert torch.allclose(shallow(frames.inputs), copy(frames.inputs), atol=1e-5)
    assert score(copy, frames) == score(shallow, frames)


def test_it_is_measured():
    answer = perform(EXPERIMENT, small_bench(), steps=120)
    rulings = {ruling["effect"]: ruling for ruling in answer["rows"]["A1"]["rulings"]}
    assert rulings["deep_can_be_shallow"]["verdict"] == "holds" and rulings["deep_minus_shallow"]["mean"] > 0
    assert all(math.isfinite(value) for ruling in rulings.values() for value in ruling["values"])


def test_as_deep_as_the_shallow_one_it_does_not_fail():
    assert verdicts_of_rules(steps=120, deep=SHALLOW)["deep_minus_shallow"] == "does not hold"


def test_after_one_update_a_weak_network_is_as_good_as_any():
    assert verdicts_of_rules(steps=1)["weak_minus_shallow"] == "does not hold"
