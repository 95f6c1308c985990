"""G5, and a case where it is false."""

import pytest
import torch

from phoneme.lab import perform
from phoneme.lab.experiments.norm_relatives import CONTEXT, EXPERIMENT, RELATIVES, time_network
from phoneme.models import FRAME_NORMS, NORMS
from tests.lab.helpers import bundled_speech, small_bench, verdicts


def test_every_relative_there_is_has_a_rule():
    assert {*RELATIVES, "batch", "none"} == {*NORMS, *FRAME_NORMS}
    assert {f"gain_{kind}" for kind in RELATIVES} <= {rule.effect for rule in EXPERIMENT.rules}


@pytest.mark.parametrize("norm", ["none", "instance"])
def test_the_network_with_a_time_axis_knows_no_company(norm):
    speech = bundled_speech(CONTEXT)
    model, windows = time_network(speech, 0, norm), speech.train(4, 0).inputs
    torch.testing.assert_close(model(windows)[:1], model(windows[:1]))


def test_it_is_measured():
    found = perform(EXPERIMENT, small_bench(), steps=12)
    rulings = {ruling["effect"]: ruling for ruling in found["rows"]["G5"]["rulings"]}
    assert all(None not in ruling["values"] for ruling in rulings.values())
    assert found["numbers"]["deep"]["train_loss"].keys() == {"none", *NORMS}


def test_no_norm_at_all_is_no_relative():
    assert verdicts(EXPERIMENT, small_bench(), steps=6, stand_in="none") == {"G5": "does not hold"}
