"""B6, and convex problems, of which it is not true."""

import math

import pytest
import torch

from phoneme.lab import perform
from phoneme.lab.critical import Reached
from phoneme.lab.experiments.minimum_ratio import EXPERIMENT, Run, correlation, minima_share
from tests.lab.helpers import small_bench, verdicts


def run(loss, eigenvalues, converged=True, random_start=True, goal="critical"):
    values = torch.tensor(eigenvalues, dtype=torch.float64)
    reached = Reached(torch.zeros(len(values)).double(), float(loss), 0.0, 0.0, values, converged, 0.0, 1)
    return Run(reached, random_start, goal)


def test_only_runs_that_arrived_count():
    runs = [run(loss, [-1.0] * (4 - loss) + [1.0] * loss) for loss in range(5)]  # the higher, the more bend up
    assert correlation(runs) == pytest.approx(1)
    assert math.isnan(correlation([*runs[:4], run(4, [1.0] * 4, converged=False)]))
    assert correlation([run(loss, [1.0]) for loss in range(5)]) == 0


def test_the_share_is_of_searches_from_random_weights_for_any_critical_point():
    runs = [run(0, [1.0, 2.0]), run(1, [-1.0, 2.0]), run(0, [1.0], random_start=False), run(0, [1.0], goal="minimum")]
    assert minima_share(runs) == 0.5 and math.isnan(minima_share([run(0, [1.0], converged=False)]))


def test_it_is_measured():
    answer = perform(EXPERIMENT, small_bench(), count=2)
    assert answer["rows"]["B6"]["verdict"] != "does not hold"
    for ruling in answer["rows"]["B6"]["rulings"]:
        assert all(value is not None for value in ruling["values"]), ruling["effect"]
    for task in ("sinc", "speech"):
        numbers = answer["numbers"][task]
        assert numbers["arrived"] == len(numbers["points"]) <= numbers["runs"] == 36


def test_with_a_convex_loss_every_critical_point_is_a_minimum():
    assert verdicts(EXPERIMENT, small_bench(), hidden=False, count=1)["B6"] == "does not hold"
