"""Averages of weights: their value, who sees them, and that the training is left alone."""

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer

import phoneme
from phoneme.callbacks import WeightAverage
from phoneme.checkpoint import read_checkpoint
from phoneme.errors import InputError
from phoneme.gradients.norms import snapshot
from tests.helpers import metrics, train_in
from tests.runs.test_train import PLUG, same_bits, weights

EMA, SWA = "callbacks/averaging=ema", "callbacks/averaging=swa"
SHORT = ("trainer.max_epochs=2", "trainer.limit_train_batches=20", "model.dropout=0.5")  # 40 updates
NOTE = "+callbacks.note={_target_: tests.callbacks.test_averaging.Note}"


class Note(Callback):
    """Keeps what was trained, after each update."""

    trained: list[dict[str, torch.Tensor]]

    def on_fit_start(self, trainer, module):
        Note.trained = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.global_step > len(Note.trained):
            Note.trained.append(snapshot(module.state_dict()))


def checkpoint(folder, name="last"):
    return read_checkpoint(folder / "checkpoints" / f"{name}.ckpt")


def expected(trained, decay):
    """The average by brute force in float64, counters as they were last."""
    average = {name: tensor.double() for name, tensor in trained[0].items()}
    for n, current in enumerate(trained[1:], start=1):
        share = 1 / (n + 1) if decay is None else 1 - min(decay, (1 + n) / (10 + n))
        average = {name: old + share * (current[name].double() - old) for name, old in average.items()}
    return average


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    train_in(folder, *SHORT)
    return folder


@pytest.mark.parametrize(
    ("overrides", "averaged", "decay"),
    [
        ((EMA,), slice(0, 40), 0.999),
        ((EMA, "callbacks.averaging.decay=0.5", "callbacks.averaging.every_n_steps=3"), slice(0, 40, 3), 0.5),
        ((SWA,), slice(30, 40), None),
        ((SWA, "callbacks.averaging.start=7", "callbacks.averaging.every_n_steps=10"), slice(7, 40, 10), None),
        ((EMA, "trainer.accumulate_grad_batches=2"), slice(0, 20), 0.999),
        ((EMA, "trainer.precision=bf16-mixed"), slice(0, 40), 0.999),
        ((EMA, "model.norm=spectral"), slice(0, 40), 0.999),
    ],
)
def test_it_is_the_average(overrides, averaged, decay, tmp_path):
    """Parameters and BatchNorm's statistics, as float64 has them; counters and singular vectors have no mean."""
    train_in(tmp_path, *SHORT, *overrides, NOTE)
    saved, brute = checkpoint(tmp_path), expected(Note.trained[averaged], decay)
    assert saved["averaging_state"]["n_averaged"] == len(Note.trained[averaged])
    for name, value in saved["state_dict"].items():
        if name.endswith(("num_batches_tracked", "._u", "._v")):
            assert torch.equal(value, Note.trained[averaged][-1][name])
        else:
            torch.testing.assert_close(value.double(), brute[name], atol=1e-6, rtol=1e-5)
    assert same_bits(saved["current_model_state"], Note.trained[-1])
    assert not same_bits(saved["current_model_state"], saved["state_dict"])


def test_the_training_is_the_same(plain, tmp_path):
    train_in(tmp_path, *SHORT, EMA)
    assert same_bits(weights(plain), checkpoint(tmp_path)["current_model_state"])
    trained = [[{k: v for k, v in row.items() if "val" not in k} for row in metrics(f)] for f in (plain, tmp_path)]
    assert trained[0] == trained[1]


def test_validation_and_what_is_kept_are_of_the_average(tmp_path):
    summary = train_in(tmp_path, *SHORT, EMA)
    logged = [float(row["val/accuracy"]) for row in metrics(tmp_path) if "val/accuracy" in row]
    assert summary["val_accuracy"] == pytest.approx(max(logged), abs=1e-6)
    best, loaded = checkpoint(tmp_path, "best"), phoneme.load(tmp_path / "checkpoints" / "best.ckpt")
    kept = {f"model.{name}": value for name, value in loaded.state_dict().items()}
    assert same_bits(kept, best["state_dict"]) and not same_bits(kept, best["current_model_state"])


def test_without_checkpoints_the_average_is_evaluated(tmp_path, plain):
    kept = train_in(tmp_path / "kept", *SHORT, EMA, "callbacks.best_checkpoint.monitor=epoch")
    none = train_in(tmp_path / "none", *SHORT, EMA, "callbacks=none")
    assert none["val_loss"] == kept["val_loss"]
    assert (tmp_path / "none" / "prediction.csv").read_bytes() == (tmp_path / "kept" / "prediction.csv").read_bytes()


@pytest.mark.parametrize("averaging", [(EMA,), (SWA, "callbacks.averaging.start=0.4")])
def test_a_resumed_training_is_bitwise_the_uninterrupted_one(averaging, tmp_path):
    often = "callbacks.last_checkpoint.every_n_train_steps=7"
    train_in(tmp_path / "whole", *SHORT, *averaging)
    with pytest.raises(RuntimeError, match="the plug was pulled"):
        train_in(tmp_path / "first", *SHORT, *averaging, often, PLUG % 30)
    last = tmp_path / "first" / "checkpoints" / "last.ckpt"
    assert read_checkpoint(last)["global_step"] == 28
    train_in(tmp_path / "second", *SHORT, *averaging, often, f"ckpt_path={last}")
    one, other = checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "second")
    for part in ("state_dict", "current_model_state", "averaging_state"):
        assert same_bits(one[part], other[part])
    assert one["history"] == other["history"]
    predictions = [(tmp_path / name / "prediction.csv").read_bytes() for name in ("whole", "second")]
    assert predictions[0] == predictions[1]


def test_until_it_starts_it_is_the_trained_network(plain, tmp_path, caplog):
    train_in(tmp_path, *SHORT, SWA, "callbacks.averaging.start=100")
    assert same_bits(weights(plain), weights(tmp_path)) and metrics(plain) == metrics(tmp_path)
    assert same_bits(weights(plain, "best"), weights(tmp_path, "best"))
    assert "no weights are averaged: callbacks.averaging.start=100, and the training has 40 updates" in caplog.text


def test_a_longer_training_that_continues_starts_its_average_anew(tmp_path):
    """A share of the longer training has not come yet: the old average is neither validated nor mixed into the new."""
    train_in(tmp_path / "first", *SHORT, SWA)
    last = tmp_path / "first" / "checkpoints" / "last.ckpt"
    assert read_checkpoint(last)["averaging_state"]["n_averaged"] == 10
    longer = (*SHORT, SWA, "trainer.max_epochs=5", f"ckpt_path={last}", NOTE)
    train_in(tmp_path / "second", *longer)  # 100 updates; from 75 on they are averaged
    assert checkpoint(tmp_path / "second")["averaging_state"]["n_averaged"] == 25
    brute = expected(Note.trained[75 - 40 :], None)
    for name, value in checkpoint(tmp_path / "second")["state_dict"].items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(value.double(), brute[name], atol=1e-6, rtol=1e-5)


def test_diagnostics_beside_it(plain, tmp_path):
    watched = ("callbacks=diagnostics", "callbacks.critical_point.frames=100", "callbacks.critical_point.second=100")
    train_in(tmp_path, *SHORT, EMA, *watched, "callbacks.gradient_logger.every_n_steps=5")
    assert same_bits(weights(plain), checkpoint(tmp_path)["current_model_state"])


def test_a_training_without_an_average_can_continue_with_one(plain, tmp_path):
    last = plain / "checkpoints" / "last.ckpt"
    with pytest.warns(UserWarning, match="The checkpoint was not created with WeightAveraging"):
        train_in(tmp_path, *SHORT, "trainer.max_epochs=3", EMA, f"ckpt_path={last}")
    assert checkpoint(tmp_path)["averaging_state"]["n_averaged"] == 20


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"decay": 1.0}, r"(?s)a decay in \(0, 1\), or null.*got 1\.0.*callbacks\.averaging\.decay"),
        ({"decay": 0.9, "start": 1.0}, r"(?s)a share of the training in \[0, 1\), got 1\.0.*averaging\.start"),
        ({"decay": 0.9, "start": -1}, r"(?s)0 or more.*got -1.*averaging\.start"),
        ({"decay": 0.9, "start": True}, r"(?s)0 or more.*got True.*averaging\.start"),
        ({"decay": None, "every_n_steps": 0}, r"(?s)at least 1 update, got 0.*averaging\.every_n_steps"),
    ],
)
def test_refuses(settings, message):
    with pytest.raises(InputError, match=message):
        WeightAverage(**settings)


def test_a_share_of_a_training_without_an_end(monkeypatch):
    monkeypatch.setattr(Trainer, "estimated_stepping_batches", float("inf"))
    with pytest.raises(InputError, match=r"(?s)whose length is known, got no limit.*callbacks\.averaging\.start=0\.75"):
        WeightAverage(decay=None, start=0.75).on_train_start(
            Trainer(logger=False, accelerator="cpu"), LightningModule()
        )
