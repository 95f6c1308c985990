"""F2, and a loss that is no likelihood."""

from phoneme.lab.experiments.likelihood import EXPERIMENT
from tests.lab.helpers import small_bench, verdicts


def test_it_holds():
    assert verdicts(EXPERIMENT, small_bench(), steps=20) == {"F2": "holds"}


def test_smoothed_targets_are_no_likelihood_of_the_labels():
    assert verdicts(EXPERIMENT, small_bench(), steps=20, label_smoothing=0.1) == {"F2": "does not hold"}
