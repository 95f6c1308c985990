"""Trainings with augmentation: repeated, resumed, watched; and that it changes nothing but the training batches."""

import pytest
import torch

from phoneme.checkpoint import read_checkpoint
from phoneme.columns import Features
from phoneme.config import shipped
from phoneme.errors import InputError
from phoneme.models import Recurrent
from phoneme.runs.train import make_augment
from tests.helpers import TINY_SEQUENCE, settings_of, train_in

EVERYTHING = ("augment=specaugment", "augment.noise=0.1", "augment.speed=0.1")
PLUG = "+callbacks.plug={_target_: tests.helpers.PullThePlug, step: %d}"
WHOLE = (*TINY_SEQUENCE, *EVERYTHING, "model=tcn", "model.dropout=0.5", "trainer.max_epochs=3")


def weights(folder, name="last"):
    return read_checkpoint(folder / "checkpoints" / f"{name}.ckpt")["state_dict"]


def same_bits(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("augmented")
    return train_in(folder, *WHOLE, tiny=False), folder


def test_it_is_another_training(run, tmp_path):
    train_in(tmp_path, *WHOLE, "augment=none", "augment.noise=0", "augment.speed=0", tiny=False)
    assert not same_bits(weights(run[1]), weights(tmp_path))


def test_validation_sees_every_frame_as_it_is(run):
    labels = (shipped("data/sample") / "train_labels.txt").read_text().split()
    assert run[0]["train_frames"] + run[0]["val_frames"] == sum(label.isdecimal() for label in labels)


def test_a_resumed_training_is_bitwise_the_uninterrupted_one(run, tmp_path):
    often = "callbacks.last_checkpoint.every_n_train_steps=7"
    with pytest.raises(RuntimeError, match="the plug was pulled"):
        train_in(tmp_path / "first", *WHOLE, often, PLUG % 16, tiny=False)
    last = tmp_path / "first" / "checkpoints" / "last.ckpt"
    assert read_checkpoint(last)["global_step"] == 14
    train_in(tmp_path / "second", *WHOLE, often, f"ckpt_path={last}", tiny=False)
    assert same_bits(weights(run[1]), weights(tmp_path / "second"))


def test_diagnostics_watch_it_without_a_trace(run, tmp_path):
    watched = ("callbacks=diagnostics", "callbacks.gradient_logger.every_n_steps=5", "callbacks.critical_point=null")
    train_in(tmp_path, *WHOLE, *watched, tiny=False)
    assert same_bits(weights(run[1]), weights(tmp_path))


@pytest.mark.parametrize(
    ("normalise", "source", "change", "warned"),
    [
        ("none", "audio", {"noise": 0.1}, True),
        ("none", "audio", {"time_masks": 1}, True),
        ("none", "audio", {"speed": 0.1}, False),
        ("none", "mfcc39", {"noise": 0.1}, False),  # they come normalised
        ("auto", "audio", {"noise": 0.1}, False),
    ],
)
def test_features_that_are_not_normalised(normalise, source, change, warned, tmp_path, caplog):
    section = settings_of(tmp_path, "augment=none")["settings"]["augment"] | change
    model = Recurrent(coeffs=39, classes=41, width=4, depth=1)
    make_augment(section, model, Features("course", normalise, source=source), 39)
    assert ("features.normalise=none: augment hides by 0" in caplog.text) == warned


def test_its_draws_do_not_shift_those_of_dropout(tmp_path):
    """Noise of deviation 1e-30 changes no float32, so the training is bitwise that without it, dropout included."""
    small = ("model.dropout=0.5", "trainer.max_epochs=1")
    train_in(tmp_path / "without", *small)
    train_in(tmp_path / "with", *small, "augment.noise=1e-30")
    assert same_bits(weights(tmp_path / "without"), weights(tmp_path / "with"))


@pytest.mark.parametrize("choice", [("augment=specaugment",), ("augment=specaugment", "augment.noise=0.1")])
def test_windows(choice, tmp_path):
    summary = train_in(tmp_path, *choice, "augment.time_share=0.2", "trainer.max_epochs=1")
    assert summary["val_accuracy"] > 0.2  # silence alone: 0.19


def test_a_window_has_no_speed(tmp_path):
    with pytest.raises(InputError, match=r"(?s)0 for a frame model, got 0\.1.*where: augment\.speed"):
        train_in(tmp_path, "augment.speed=0.1")
