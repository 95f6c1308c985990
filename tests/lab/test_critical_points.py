"""B2, B3 and B4, and cases in which they are not true."""

import math

import pytest
import torch

from phoneme.curvature.ends import by_decomposition
from phoneme.curvature.hvp import HessianProducts
from phoneme.curvature.objective import Objective
from phoneme.lab import Own, perform
from phoneme.lab.experiments.critical_points import EXPERIMENT, Found, hold, lanczos_ends, leave, signs
from phoneme.lab.small import sinc
from phoneme.losses import cross_entropy
from tests.lab.helpers import small_bench


def rulings(answer):
    return {ruling["effect"]: ruling for row in answer["rows"].values() for ruling in row["rulings"]}


def network(weight_decay=1e-3):
    return sinc(torch.device("cpu")).objective((3, 3), 0, weight_decay)


def test_bounds_that_are_too_narrow_are_seen():
    objective = network()
    truth = by_decomposition(HessianProducts(objective), 1)
    honest, boastful = Found(), Found()
    short = lanczos_ends(objective, 8, 0)
    hold(short, truth, honest, narrowed=1.0)
    hold(short, truth, boastful, narrowed=0.0)
    assert honest.missed == 0 and boastful.missed > 0
    assert signs(truth) == "saddle" and honest.wrong_signs == 0


def test_at_the_saddle_of_a_network_of_zeros_the_loss_falls_as_predicted():
    """y = w1 w2 x in each unit: lambda is known from the data."""
    model = torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)).double()
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    one = torch.ones(1, 1, dtype=torch.float64)
    objective = Objective(model, torch.nn.functional.mse_loss, [(one, one)])
    found, mistaken = Found(), Found()
    half = math.sqrt(0.5)
    leave(objective, torch.tensor([half, half], dtype=torch.float64), found)
    leave(objective, torch.tensor([half, -half], dtype=torch.float64), mistaken, wrong_way=True)
    assert found.measured[0] / found.predicted[0] == pytest.approx(1, abs=1e-3) and found.stayed == 0
    assert found.gains[0] == pytest.approx(1, abs=1e-2)
    assert mistaken.measured[0] / mistaken.predicted[0] == pytest.approx(-1, abs=1e-3) and mistaken.stayed == 1


def test_it_is_measured():
    answer = perform(EXPERIMENT, small_bench())
    found = rulings(answer)
    assert found["missed"]["values"] == found["wrong_signs"]["values"] == [0, 0, 0]
    assert found["order"]["mean"] == pytest.approx(3, abs=0.2) and found["ratio"]["mean"] == pytest.approx(1, abs=0.2)
    assert all(value is not None for ruling in found.values() for value in ruling["values"])


def test_where_the_claims_are_false_they_do_not_hold():
    """Kinks have no third derivative, a convex loss has no saddle, and no number is exact."""
    answer = perform(EXPERIMENT, small_bench(), activation="relu", hidden=(), narrowed=0.0)
    verdicts = {row: found["verdict"] for row, found in answer["rows"].items()}
    assert verdicts["B2"] in ("holds partly", "does not hold") and verdicts["B3"] != "holds"
    assert verdicts["B4"] == "undecided"


def test_a_network_of_the_user_s():
    bench = small_bench(context=1, depth=1, width=8, activation="tanh")
    model = bench.model(0)

    def batches(side, count, seed):
        frames = bench.speech.train(count, seed)
        return [((frames.inputs,), frames.targets)]

    own = Own("mine.ckpt", model, cross_entropy, batches)
    found = rulings(perform(EXPERIMENT, small_bench(checkpoint=own)))
    assert found["missed"]["values"] == [0, 0, 0] and found["order"]["mean"] == pytest.approx(3, abs=0.2)
