"""F1, and the case where both losses are one."""

import math

from phoneme.lab import perform
from phoneme.lab.experiments.loss_surfaces import EXPERIMENT, gradient_at
from phoneme.losses import cross_entropy, mse_on_softmax
from tests.lab.helpers import small_bench, verdicts


def test_the_slopes_in_closed_form():
    p = 1 / (1 + math.exp(20))  # of the right class at (-10, 10)
    assert math.isclose(gradient_at(mse_on_softmax, (-10.0, 10.0))[0].item(), -4 * p * (1 - p) ** 2, rel_tol=1e-6)
    assert math.isclose(gradient_at(cross_entropy, (-10.0, 10.0))[0].item(), p - 1, rel_tol=1e-9)


def test_it_holds():
    answer = perform(EXPERIMENT, small_bench(), steps=60)
    assert answer["rows"]["F1"]["verdict"] == "holds"
    assert [picture["name"] for picture in answer["pictures"]] == ["surfaces", "trainings"]


def test_a_loss_that_is_not_flat_refutes_it():
    assert verdicts(EXPERIMENT, small_bench(), squared=cross_entropy, steps=30)["F1"] == "holds partly"
