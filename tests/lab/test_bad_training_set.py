"""A6 in closed form, and what would break it."""

from phoneme.lab import perform
from phoneme.lab.experiments.bad_training_set import EXPERIMENT, bad_share, bound, examples_needed
from tests.lab.helpers import small_bench, verdicts


def test_the_numbers_of_the_lecture():
    assert round(bound(10_000, 100, 0.1)) == 2707 and round(bound(10_000, 500, 0.1), 2) == 0.91
    assert f"{bound(10_000, 1000, 0.1):.1e}" == "4.1e-05" and examples_needed(10_000, 0.1, 0.1) == 611


def test_the_simulated_share_is_that_of_the_binomial_distribution():
    # one hypothesis, N = 10, epsilon = 0.35: |errors - 5| > 3.5 is 0, 1, 9 or 10 errors: 22 / 1024
    assert abs(bad_share(1, 10, 0.35, 200_000, 0) - 22 / 1024) < 0.001


def test_it_holds():
    answer = perform(EXPERIMENT, small_bench())
    assert answer["rows"]["A6"]["verdict"] == "holds" and answer["numbers"]["examples_needed"] == 611


def test_other_sizes_do_not_give_the_lectures_numbers():
    assert verdicts(EXPERIMENT, small_bench(), hypotheses=100) == {"A6": "holds partly"}
