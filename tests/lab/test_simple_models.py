"""A2, and a case where nothing has failed."""

import math

from phoneme.lab import perform
from phoneme.lab.experiments.simple_models import EXPERIMENT, NETWORKS
from tests.lab.helpers import small_bench


def verdicts_of_rules(**conditions) -> tuple[dict[str, str], dict]:
    answer = perform(EXPERIMENT, small_bench(), **conditions)
    rulings = answer["rows"]["A2"]["rulings"]
    assert all(math.isfinite(value) for ruling in rulings for value in ruling["values"])
    return {ruling["effect"]: ruling["verdict"] for ruling in rulings}, answer


def test_networks_that_have_failed_are_caught():
    found, answer = verdicts_of_rules(steps=120)
    assert found["bad_rate_over_simple"] == found["too_deep_over_simple"] == "holds"
    assert found["logistic_reaches"] == found["linear_svm_reaches"] == "holds"
    assert all(map(all, answer["numbers"]["converged"].values()))
    assert "the one with a bad rate, the one that is too deep" in answer["pictures"][0]["message"]


def test_networks_that_train_are_not_caught():
    found, answer = verdicts_of_rules(steps=250, networks=dict.fromkeys(NETWORKS, (5e-3, 2)))
    assert found["bad_rate_over_simple"] == found["too_deep_over_simple"] == "does not hold"
    assert answer["rows"]["A2"]["verdict"] == "holds partly"
