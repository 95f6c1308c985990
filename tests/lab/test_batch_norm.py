"""G2, and a case where it is false."""

from dataclasses import replace

import pytest
import torch

from phoneme.errors import InputError
from phoneme.lab import perform
from phoneme.lab.experiments.batch_norm import EXPERIMENT, Side, _shown
from phoneme.lab.rates import Run
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


def test_a_rate_at_which_one_seed_diverged_is_a_gap():
    model = torch.nn.Linear(1, 1)
    rows = [[Run(0.1, model, (1.0,), loss, 0.5) for loss in losses] for losses in ([1.0, 2.0], [1.5, float("inf")])]
    assert _shown(rows, 4.0) == [[1.0, None], [1.5, None]]


def test_a_model_without_a_norm_is_refused():
    bench = replace(small_bench(), network={"_target_": "phoneme.models.Linear", "context": 3})
    with pytest.raises(InputError, match=r"(?s)a model with the settings .*got Linear.*model=small"):
        perform(EXPERIMENT, bench, steps=2)
