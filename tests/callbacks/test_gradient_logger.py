"""What the gradient logger says is what torch computes, in every logger, and the training does not notice it."""

import csv
import json
import math
import subprocess
import sys
from typing import ClassVar

import pytest
import torch
from pytorch_lightning import Callback
from pytorch_lightning.loggers import TensorBoardLogger

from phoneme.callbacks import GradientLogger
from phoneme.callbacks.gradient_logger import _probe, log_to
from phoneme.errors import DivergedError, InputError
from phoneme.gradients import gradient_histograms, weight_histograms
from tests.helpers import TINY, environment, metrics, train_in
from tests.runs.test_tracking import WandbRun
from tests.runs.test_train import same_bits, weights

LAYERS = ("blocks.0.linear", "blocks.0.norm", "blocks.1.linear", "blocks.1.norm", "output")
ACTIVATIONS = ("blocks.0.activation", "blocks.1.activation")
SCALARS = {
    *(f"{group}/{layer}" for group in ("gradients/norm", "updates/ratio") for layer in ("total", *LAYERS)),
    *(f"units/{share}/{layer}" for share in ("flat_share", "flat_output_share") for layer in ACTIVATIONS),
    "updates/cosine",
}
QUANTILES = {
    f"{start}{name}/{layer}"
    for start in ("gradients/log10_", "weights/")
    for name in ("q05", "q50", "q95")
    for layer in LAYERS
}
EVERY = "callbacks.gradient_logger.every_n_steps=%d"
ALONE = ("callbacks=diagnostics", "callbacks.critical_point=null")
SHORT = (*ALONE, "trainer.max_epochs=1", "trainer.limit_train_batches=12")


def rows_of(folder):
    """Of metrics.csv, those that the gradient logger wrote."""
    with (folder / "metrics.csv").open() as file:
        rows = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
    return {int(row["step"]): row for row in rows if "gradients/norm/total" in row}


class Check(Callback):
    """Measures by plain torch what the logger should find."""

    found: ClassVar[dict[int, dict[str, float]]] = {}  # by step

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.before = self.flat(module)

    def on_before_optimizer_step(self, trainer, module, optimizer):
        gradients = torch.cat([p.grad.flatten() for p in module.model.parameters()]).double()
        output = torch.cat([p.grad.flatten() for p in module.model.output.parameters()]).double()
        self.now = {"gradients/norm/total": gradients.norm(), "gradients/norm/output": output.norm()}

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        after = self.flat(module)
        if torch.equal(after, self.before):  # only accumulated
            return
        move = after - self.before
        self.now["updates/ratio/total"] = move.norm() / self.before.norm()
        if trainer.global_step > 1:
            self.now["updates/cosine"] = torch.nn.functional.cosine_similarity(move, self.last, dim=0)
        self.last = move
        self.found[trainer.global_step - 1] = {name: value.item() for name, value in self.now.items()}

    @staticmethod
    def flat(module):
        return torch.cat([p.detach().flatten() for p in module.model.parameters()]).double()


CHECK = "+callbacks.check={_target_: tests.callbacks.test_gradient_logger.Check}"


@pytest.mark.parametrize(
    ("overrides", "steps"),
    [
        ((EVERY % 1,), list(range(12))),
        ((EVERY % 5,), [4, 9]),
        ((EVERY % 2, "trainer.accumulate_grad_batches=2"), [1, 3, 5]),
        ((EVERY % 6, "trainer.gradient_clip_val=1e-3"), [5, 11]),  # norms are from before clipping
        ((EVERY % 6, "trainer.precision=bf16-mixed"), [5, 11]),
    ],
)
def test_finds_what_torch_finds(tmp_path, overrides, steps):
    Check.found.clear()
    train_in(tmp_path, *SHORT, CHECK, *overrides)
    rows = rows_of(tmp_path)
    assert list(rows) == steps
    for step, row in rows.items():
        expected = Check.found[step]
        assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-9)
        assert ("updates/cosine" in row) == (step > 0)
        assert row.keys() - {"step", "epoch", "updates/cosine"} == (SCALARS | QUANTILES) - {"updates/cosine"}
    if "trainer.gradient_clip_val=1e-3" in overrides:
        assert rows[5]["gradients/norm/total"] > 0.1


@pytest.mark.parametrize(
    "overrides",
    [(), ("trainer.accumulate_grad_batches=2",), ("trainer.precision=bf16-mixed", "trainer.gradient_clip_val=0.5")],
)
def test_training_is_bitwise_the_one_without(tmp_path, overrides):
    recipe = ("trainer.max_epochs=1", "model.dropout=0.5", *overrides)
    train_in(tmp_path / "without", *recipe)
    train_in(tmp_path / "with", *recipe, *ALONE, EVERY % 3)
    assert len(rows_of(tmp_path / "with")) >= 9
    assert same_bits(weights(tmp_path / "without"), weights(tmp_path / "with"))
    plain = [row for row in metrics(tmp_path / "with") if "gradients/norm/total" not in row]
    assert plain == metrics(tmp_path / "without")


def test_without_histograms(tmp_path):
    train_in(tmp_path, *SHORT, EVERY % 12, "callbacks.gradient_logger.histograms=false")
    (row,) = rows_of(tmp_path).values()
    assert row.keys() - {"step", "epoch"} == SCALARS


def test_dead_units_are_seen(tmp_path):
    """With a bias far below 0 no unit of the first layer answers."""
    kill = "+callbacks.kill={_target_: tests.callbacks.test_gradient_logger.Kill}"
    train_in(tmp_path, *SHORT, EVERY % 12, "model.norm=none", kill)
    (row,) = rows_of(tmp_path).values()
    assert row["units/flat_share/blocks.0.activation"] == row["units/flat_output_share/blocks.0.activation"] == 1.0
    assert row["gradients/log10_q95/blocks.0.linear"] == pytest.approx(-12, abs=0.01)  # all zero: the first bin
    assert row["gradients/norm/blocks.0.linear"] == 0.0 < row["gradients/norm/output"]


class Kill(Callback):
    def on_train_start(self, trainer, module):
        with torch.no_grad():
            module.model.blocks[0].linear.bias.fill_(-1e3)


def test_whole_utterances_are_probed_as_long_as_they_are():
    inputs, lengths = torch.zeros(4, 100, 3), torch.tensor([80, 90, 100, 70])
    short, kept = _probe((inputs, lengths), 256)
    assert short.shape == (2, 90, 3) and kept.tolist() == [80, 90]
    one, kept = _probe((inputs, lengths), 10)
    assert one.shape == (1, 80, 3) and kept.tolist() == [80]
    assert _probe((inputs,), 2)[0].shape == (2, 100, 3)


def test_wandb_gets_histograms(tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "phoneme.cli.train",
            *TINY,
            *SHORT,
            EVERY % 6,
            "logger=wandb_offline",
            f"hydra.run.dir={tmp_path}",
        ],
        cwd=tmp_path,
        env=environment() | {"WANDB_DATA_DIR": str(tmp_path / "staging")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    history = [row for row in WandbRun(tmp_path).history if "gradients/norm/total" in row]
    by_csv = rows_of(tmp_path)
    assert [row["trainer/global_step"] for row in history] == list(by_csv) == [5, 11]
    for row in history:
        assert {name: row[name] for name in SCALARS} == {n: by_csv[row["trainer/global_step"]][n] for n in SCALARS}
        for layer in LAYERS:
            for start in ("gradients/log10_", "weights/"):
                histogram = {k.rpartition(".")[2]: v for k, v in row.items() if f"{start}histogram/{layer}." in k}
                histogram = histogram or row[f"{start}histogram/{layer}"]
                assert histogram["_type"] == "histogram"
        assert not QUANTILES & row.keys()


def test_tensorboard_gets_histograms(tmp_path):
    pytest.importorskip("tensorboard")
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    logger = TensorBoardLogger(tmp_path, name="", version="")
    gradients = {"a.w": torch.randn(1000, generator=torch.Generator().manual_seed(0))}
    histograms = {
        ("gradients/log10_", "a"): gradient_histograms(gradients)["a"],
        ("weights/", "a"): weight_histograms(gradients)["a"],
    }
    log_to(logger, {"updates/cosine": 0.5}, histograms, 7)
    logger.finalize("success")
    events = accumulator.EventAccumulator(str(tmp_path), size_guidance={accumulator.HISTOGRAMS: 0})
    events.Reload()
    assert set(events.Tags()["histograms"]) == {"gradients/log10_histogram/a", "weights/histogram/a"}
    (event,) = events.Histograms("weights/histogram/a")
    value = event.histogram_value
    assert event.step == 7 and value.num == 1000 and sum(value.bucket) == 1000
    assert value.sum / 1000 == pytest.approx(gradients["a.w"].mean().item(), abs=0.1)
    assert [e.value for e in events.Scalars("updates/cosine")] == [0.5]


def test_without_a_logger_there_is_still_the_picture(tmp_path):
    train_in(tmp_path, *SHORT, "logger=none", EVERY % 2)
    assert (tmp_path / "figures" / "gradients.png").exists()


def test_a_training_that_is_too_short_is_told(tmp_path, caplog):
    train_in(tmp_path, *SHORT, EVERY % 50)
    assert "fewer than 50 updates" in caplog.text
    assert not (tmp_path / "figures" / "gradients.png").exists()


@pytest.mark.parametrize("arguments", [{"every_n_steps": 0}, {"every_n_steps": True}, {"probe_rows": -1}])
def test_counts_that_cannot_be(arguments):
    (name,) = arguments
    with pytest.raises(InputError, match=rf"(?s)expected 1 or more, got .*GradientLogger, {name}"):
        GradientLogger(**arguments)


def test_numbers_that_are_not_finite_go_through(tmp_path):
    """Nothing raises before the training's own check does."""
    with pytest.raises(DivergedError, match="expected a finite loss, got nan"):
        train_in(tmp_path, *SHORT, EVERY % 2, "optim=sgd", "optim.lr=1e30", "model.norm=none", "trainer.max_steps=2")
    assert math.isnan(rows_of(tmp_path)[1]["gradients/norm/total"])


def test_a_compiled_model_is_seen_too(tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "phoneme.cli.train",
            *TINY,
            *SHORT,
            EVERY % 6,
            "compile=true",
            f"hydra.run.dir={tmp_path}",
        ],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    rows = rows_of(tmp_path)
    assert list(rows) == [5, 11] and all(row.keys() - {"step", "epoch"} == SCALARS | QUANTILES for row in rows.values())
    assert json.loads((tmp_path / "summary.json").read_text())["epochs"] == 1
