"""G1, and a case where it is false."""

import pytest
import torch

from phoneme.curvature.ends import by_decomposition
from phoneme.curvature.hvp import HessianProducts
from phoneme.curvature.objective import Objective
from phoneme.lab import perform
from phoneme.lab.experiments.feature_scale import (
    DEVIATIONS,
    EXPERIMENT,
    MEANS,
    Bowl,
    curvatures,
    linear_from_zero,
    restored,
)
from phoneme.lab.speech import Frames
from phoneme.losses import cross_entropy
from tests.lab.helpers import bundled_speech, small_bench, verdicts


def test_curvatures_are_those_of_the_whole_hessian():
    frames = bundled_speech(1).train(200, 0)
    frames = Frames(frames.inputs[:, :, :4], frames.targets)
    classes = 41
    objective = Objective(
        linear_from_zero(frames, classes), cross_entropy, [(frames.inputs, frames.targets)], dtype=torch.float64
    )
    whole = by_decomposition(HessianProducts(objective), leading=1).eigenvalues
    found = curvatures(frames, classes).repeat_interleave(classes - 1)
    torch.testing.assert_close(whole, torch.cat([torch.zeros(5).double(), found]), atol=1e-12, rtol=1e-9)


def test_columns_that_depend_on_each_other_have_a_finite_condition_number():
    assert Bowl(torch.tensor([-1e-18, 1.0, 2.0]).double(), (1.0,), 1).condition == pytest.approx(1 / (3 * 2**-52))
    assert Bowl(torch.tensor([0.5, 1.0, 2.0]).double(), (1.0,), 1).condition == 4


def test_normalisation_is_undone():
    frames = Frames(torch.tensor([[-1.0, 0.0, 1.0]]).T[:, :, None].expand(3, 1, 39), torch.zeros(3, dtype=torch.int64))
    rows = restored(frames, deviations=True, means=True).inputs[:, 0]
    torch.testing.assert_close(rows.mean(0), torch.tensor(MEANS))
    torch.testing.assert_close(rows.std(0), torch.tensor(DEVIATIONS))
    assert restored(Frames(torch.zeros(3, 1, 65), frames.targets), True, True).inputs.shape == (3, 1, 65)


def test_it_is_measured():
    found = perform(EXPERIMENT, small_bench(), steps=40)
    rulings = {ruling["effect"]: ruling for ruling in found["rows"]["G1"]["rulings"]}
    assert rulings["condition"]["verdict"] == "holds"
    assert all(None not in ruling["values"] for ruling in rulings.values())
    assert found["numbers"]["normalised"]["linear"]["updates_to_target"][0] < 40


def test_features_that_are_the_same_on_both_sides_gain_nothing():
    assert verdicts(EXPERIMENT, small_bench(), steps=10, undo=False) == {"G1": "does not hold"}
