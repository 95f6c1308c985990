"""G2, and a case where it is false."""

import pytest
import torch

from phoneme.errors import InputError
from phoneme.lab import perform
from phoneme.lab.experiments.batch_norm import EXPERIMENT, Side
from tests.lab.helpers import small_bench, verdicts


def test_it_is_measured():
    found = perform(EXPERIMENT, small_bench(), steps=40)
    rulings = {ruling["effect"]: ruling for ruling in found["rows"]["G2"]["rulings"]}
    assert rulings["faster"]["verdict"] == "holds"
    assert all(None not in ruling["values"] for ruling in rulings.values())
    surface = found["numbers"]["relu"]["none"]
    assert all(ratio > 1 for ratio in surface["largest_over_mean"])


def test_a_network_against_itself_gains_nothing():
    assert verdicts(EXPERIMENT, small_bench(), steps=10, norm="none") == {"G2": "does not hold"}


def test_steepness_is_the_largest_over_the_mean():
    assert Side(largest=[8.0], mean=[2.0]).steepness == [4.0]


def test_a_model_without_a_norm_is_refused():
    bench = small_bench()
    linear = {"_target_": "phoneme.models.Linear", "context": 3}
    bench = type(bench)(bench.seeds, "quick", torch.device("cpu"), linear, bench.open_speech)
    with pytest.raises(InputError, match=r"(?s)a model with the setting .*got Linear.*model=small"):
        perform(EXPERIMENT, bench, steps=2)
