"""A model on whole utterances through everything a run does: train, repeat, resume, load, predict, diagnose."""

import json

import pytest
import torch

import phoneme
from phoneme.checkpoint import read_checkpoint
from phoneme.config import shipped
from phoneme.runs.predict import run_predict
from tests.helpers import TINY_SEQUENCE, command, metrics, train_in

MODELS = ("gru", "lstm", "tcn", "conformer")
PLUG = "+callbacks.plug={_target_: tests.helpers.PullThePlug, step: %d}"


def train_sequence(folder, *overrides):
    return train_in(folder, *TINY_SEQUENCE, *overrides, tiny=False)


def weights(folder, name="last"):
    return read_checkpoint(folder / "checkpoints" / f"{name}.ckpt")["state_dict"]


def same_bits(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture(scope="module", params=MODELS)
def run(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, train_sequence(folder, f"model={request.param}"), folder


def test_every_frame_is_counted_and_labelled(run):
    _, summary, folder = run
    labels = (shipped("data/sample") / "train_labels.txt").read_text().split()
    assert summary["train_frames"] + summary["val_frames"] == sum(label.isdecimal() for label in labels)
    assert len((folder / "prediction.csv").read_text().splitlines()) == 1 + 10_638
    assert metrics(folder) and "train/frames_per_second" in (folder / "metrics.csv").read_text()


def test_the_same_command_gives_the_same_bits(run, tmp_path):
    name, _, folder = run
    train_sequence(tmp_path, f"model={name}")
    assert same_bits(weights(folder), weights(tmp_path)) and metrics(folder) == metrics(tmp_path)
    assert (folder / "prediction.csv").read_bytes() == (tmp_path / "prediction.csv").read_bytes()


def test_the_loaded_model_says_what_was_handed_in(run):
    _, _, folder = run
    model = phoneme.load(folder / "checkpoints" / "best.ckpt")
    root = shipped("data/sample")
    first = (root / "test_split.txt").read_text().split()[0]
    frames = torch.load(root / "feat" / "test" / f"{first}.pt", weights_only=True)
    with torch.no_grad():
        expected = model(frames[None], torch.tensor([len(frames)]))[0].argmax(-1)
    lines = (folder / "prediction.csv").read_text().splitlines()[1 : len(frames) + 1]
    right = sum(int(line.split(",")[1]) == answer for line, answer in zip(lines, expected.tolist(), strict=True))
    assert right >= 0.99 * len(frames)  # batched there: a tie may fall the other way


def test_predicting_again_with_other_batches(run, tmp_path):
    _, _, folder = run
    ckpt_path = str(folder / "checkpoints" / "best.ckpt")
    settings = {"ckpt_path": ckpt_path, "data": None, "device": "cpu", "batch_size": 500}
    settings |= {"ensemble": {"average": "log", "weights": "equal"}, "decode": {"name": "argmax"}}
    again = run_predict(settings, tmp_path).read_text().splitlines()
    before = (folder / "prediction.csv").read_text().splitlines()
    assert sum(a != b for a, b in zip(again, before, strict=True)) <= 10


def test_a_resumed_training_is_bitwise_the_uninterrupted_one(tmp_path):
    whole = ("model=tcn", "model.dropout=0.5", "trainer.max_epochs=3")
    train_sequence(tmp_path / "whole", *whole)
    often = "callbacks.last_checkpoint.every_n_train_steps=7"
    with pytest.raises(RuntimeError, match="the plug was pulled"):
        train_sequence(tmp_path / "first", *whole, often, PLUG % 16)
    last = tmp_path / "first" / "checkpoints" / "last.ckpt"
    assert read_checkpoint(last)["global_step"] == 14
    train_sequence(tmp_path / "second", *whole, often, f"ckpt_path={last}")
    assert same_bits(weights(tmp_path / "whole"), weights(tmp_path / "second"))


@pytest.mark.parametrize("name", MODELS)
def test_diagnostics_watch_it_without_a_trace(name, tmp_path, caplog):
    small = (f"model={name}", "model.front_depth=1", "trainer.max_epochs=1", "trainer.limit_train_batches=3")
    train_sequence(tmp_path / "without", *small)
    watched = ("callbacks=diagnostics", "callbacks.gradient_logger.every_n_steps=2")
    # hundreds of products with the Hessian, through each step of a recurrent model: here one model is enough
    looked = "callbacks.critical_point.frames=100" if name == "tcn" else "callbacks.critical_point=null"
    train_sequence(tmp_path / "with", *small, *watched, looked)
    assert same_bits(weights(tmp_path / "without"), weights(tmp_path / "with"))
    assert "does not depend on" not in caplog.text and "no FLOP/s" not in caplog.text
    assert (tmp_path / "with" / "critical_point.json").exists() == (name == "tcn")
    assert (tmp_path / "with" / "figures" / "gradients.png").exists()


def test_diagnose_takes_its_checkpoint(tmp_path):
    train_sequence(tmp_path, "model=lstm", "trainer.max_epochs=1")
    done = command(
        "diagnose",
        f"ckpt_path={tmp_path / 'checkpoints' / 'last.ckpt'}",
        "probe.frames=200",
        "probe.second=200",
        "spectrum=extremes",
        "max_products=10",
        f"hydra.run.dir={tmp_path / 'diagnosis'}",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "diagnosis" / "critical_point.json").read_text())["batch_size"] == 2000


@pytest.mark.parametrize("name", MODELS)
def test_mixed_precision_is_the_same_training_but_for_rounding(name, tmp_path):
    small = (f"model={name}", "model.norm=batch", "trainer.max_epochs=1", "trainer.limit_train_batches=2")
    exact = train_sequence(tmp_path / "exact", *small)["val_loss"]
    rounded = train_sequence(tmp_path / "rounded", *small, "trainer.precision=bf16-mixed")["val_loss"]
    assert rounded == pytest.approx(exact, rel=0.01) and rounded != exact


def test_a_batch_needs_room_for_a_frame(tmp_path):
    with pytest.raises(phoneme.errors.InputError, match=r"at least 1 frame a batch, got 0[\s\S]*data\.batch_frames"):
        train_sequence(tmp_path, "model=tcn", "data.batch_frames=0")
