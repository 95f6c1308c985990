"""Two processes on one machine: what one process would do, each frame once, one run directory."""

import csv
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Callback
from pytorch_lightning.utilities import rank_zero_only

from phoneme.callbacks import Checkpoint
from phoneme.checkpoint import read_checkpoint
from phoneme.config import shipped
from phoneme.errors import InputError
from tests.helpers import TINY, TINY_SEQUENCE, command, environment, metrics, train_in

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
TWO = (*TINY, "trainer.devices=2", "trainer.strategy=ddp")
MIDDLE = 45  # updates: two processes have 32 an epoch

HYDRA = (".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml")


class Seen(Callback):
    """Writes down which training frames this process was given, and what it counted, epoch by epoch."""

    def __init__(self, folder: str):
        self.folder = folder
        self.frames, self.sums = [[]], []

    def setup(self, trainer, module, stage):
        data, gather = trainer.datamodule, trainer.datamodule.gather

        def watched(batch):
            if trainer.training:
                self.frames[-1].append(batch)
            return gather(batch)

        data.gather = watched

    def on_train_epoch_end(self, trainer, module):
        self.sums.append(module.epoch_sums.clone())
        self.frames.append([])

    def on_train_end(self, trainer, module):
        frames = [torch.cat(epoch) for epoch in self.frames[:-1]]
        torch.save({"frames": frames, "sums": self.sums}, Path(self.folder, f"{trainer.global_rank}.pt"))


class KeepMiddle(Callback):
    """Saves `checkpoints/middle.ckpt` in mid-epoch."""

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == MIDDLE:
            trainer.save_checkpoint(Path(trainer.default_root_dir, "checkpoints", "middle.ckpt"))


class Crash(Callback):
    """Fails in the second process only."""

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_rank == 1 and trainer.global_step == 5:
            raise RuntimeError("the plug was pulled")


def run(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        arguments,
        cwd=cwd,
        env=environment() | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def check_terminal(stderr: str) -> None:
    """Each thing is said once, and nothing of the machinery."""
    assert stderr.count("2 process(es)") == stderr.count("validation accuracy") == 1, stderr
    for word in ("Traceback", "Warning", "WARNING", "GLOBAL_RANK", "process group", "destroy"):
        assert word not in stderr, stderr


@dataclass
class Run:
    folder: Path
    stderr: str
    seen: list[dict]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Run:
    """Two epochs by the console script, in Hydra's own run directory, with a checkpoint from mid-epoch."""
    place = tmp_path_factory.mktemp("ddp")
    done = run(
        BIN / "phoneme-train",
        *TWO,
        "+callbacks.middle={_target_: tests.cli.test_ddp.KeepMiddle}",
        f"+callbacks.seen={{_target_: tests.cli.test_ddp.Seen, folder: {place}}}",
        cwd=place,
    )
    assert done.returncode == 0, done.stderr
    (folder,) = place.glob("outputs/*/*")
    seen = [torch.load(place / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    return Run(folder, done.stderr, seen)


def test_one_run_directory_and_one_voice(trained):
    assert files(trained.folder) == {
        *HYDRA,
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "checkpoints/middle.ckpt",
        "figures/confusion_matrix.png",
        "figures/learning_curves.png",
        "hparams.yaml",
        "metrics.csv",
        "prediction.csv",
        "summary.json",
        "train.log",
    }
    check_terminal(trained.stderr)
    assert (trained.folder / "train.log").read_text().count("2 process(es)") == 1
    assert json.loads((trained.folder / "summary.json").read_text())["processes"] == 2


def test_each_training_frame_is_seen_once_an_epoch(trained):
    ids = read_checkpoint(trained.folder / "checkpoints" / "best.ckpt")["phoneme"]["split"]["train"]
    lines = (shipped("data/sample") / "train_labels.txt").read_text().splitlines()
    labels = {line.split()[0]: len(line.split()) - 1 for line in lines}
    for epoch in (0, 1):
        frames = torch.cat([process["frames"][epoch] for process in trained.seen])
        assert len(frames.unique()) == len(frames) == sum(labels[i] for i in ids)
        sizes = [len(process["frames"][epoch]) for process in trained.seen]
        assert abs(sizes[0] - sizes[1]) <= 32  # batches an epoch: their sizes differ by one at most
        assert [int(process["sums"][epoch][2]) for process in trained.seen] == sizes
    first, second = trained.seen[0]["frames"]
    assert not torch.equal(first[:100], second[:100])  # shuffled anew


def test_training_metrics_are_over_both_processes(trained):
    with (trained.folder / "metrics.csv").open() as file:
        logged = [float(row["train/accuracy"]) for row in csv.DictReader(file) if row["train/accuracy"]]
    for epoch, accuracy in enumerate(logged):
        _, right, frames = sum(process["sums"][epoch] for process in trained.seen)
        assert accuracy == pytest.approx(float(right / frames), abs=1e-7)


def test_validation_is_what_one_process_computes(trained):
    """The summary is the first process's own work, on the best checkpoint, after the others have left."""
    summary = json.loads((trained.folder / "summary.json").read_text())
    epochs = [row for row in metrics(trained.folder) if "val/accuracy" in row]
    best = max(epochs, key=lambda row: float(row["val/accuracy"]))
    for name, value in best.items():
        if name.startswith("val/"):
            tolerance = 1e-5 if name == "val/loss" else 1e-6  # summed in another order; all else is exact
            assert summary[name.replace("/", "_")] == pytest.approx(float(value), abs=tolerance)


def test_torchrun_continues_in_mid_epoch_bitwise(trained, tmp_path):
    middle, again = trained.folder / "checkpoints" / "middle.ckpt", tmp_path / "again"
    done = run(
        BIN / "torchrun",
        "--nproc_per_node=2",
        "-m",
        "phoneme.cli.train",
        *TWO,
        f"ckpt_path={middle}",
        "hydra.run.dir=again",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    check_terminal(done.stderr)
    assert files(tmp_path) == {f"again/{name}" for name in files(trained.folder) - {"checkpoints/middle.ckpt"}}
    after = [row for row in metrics(trained.folder) if int(row["step"]) >= MIDDLE]
    assert metrics(again) == after and len(after) == 4
    weights = [
        read_checkpoint(folder / "checkpoints" / "best.ckpt")["state_dict"] for folder in (trained.folder, again)
    ]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert (trained.folder / "prediction.csv").read_bytes() == (again / "prediction.csv").read_bytes()


def test_another_number_of_processes_cannot_continue_in_mid_epoch(trained, tmp_path):
    with pytest.raises(InputError, match=r"32 batches an epoch, as in[\s\S]*got 63[\s\S]*trainer.devices"):
        train_in(tmp_path, f"ckpt_path={trained.folder / 'checkpoints' / 'middle.ckpt'}")


def test_the_best_checkpoint_is_copied_by_the_first_process_only(tmp_path, monkeypatch):
    (tmp_path / "old").mkdir()
    old = tmp_path / "old" / "best.ckpt"
    old.write_bytes(b"weights")
    state = {
        "dirpath": str(old.parent),
        "best_model_path": str(old),
        "best_model_score": torch.tensor(0.5),
        "kth_best_model_path": str(old),
        "kth_value": torch.tensor(0.5),
        "best_k_models": {},
        "current_score": torch.tensor(0.5),
        "monitor": "val/accuracy",
        "last_model_path": "",
    }
    for rank, copied in ((1, False), (0, True)):
        monkeypatch.setattr(rank_zero_only, "rank", rank)
        new = tmp_path / "new" / "best.ckpt"
        callback = Checkpoint(dirpath=str(new.parent), filename="best", monitor="val/accuracy", mode="max")
        callback.load_state_dict(state)
        assert callback.best_model_path == str(new) and new.exists() == copied


def test_a_process_that_fails_ends_the_other(tmp_path):
    crash = "+callbacks.crash={_target_: tests.cli.test_ddp.Crash}"
    done = run(
        sys.executable,
        "-m",
        "phoneme.cli.train",
        *TWO,
        crash,
        "logger=wandb_offline",
        "hydra.run.dir=run",
        cwd=tmp_path,
    )
    assert done.returncode not in (0, None)
    assert "error in process 1: RuntimeError: the plug was pulled" in done.stderr
    allowed = {*HYDRA, "hparams.yaml", "metrics.csv", "train.log"}
    assert {name for name in files(tmp_path / "run") if not name.startswith("wandb/")} <= allowed
    assert len(list(tmp_path.rglob("*.wandb"))) == 1


def test_refused_in_a_multirun(tmp_path):
    done = command("train", "-m", *TWO, "seed=0,1", cwd=tmp_path)
    assert done.returncode == 1
    for job in (0, 1):
        assert f"error in job {job}: expected one process a job in a multirun, got 2 processes" in done.stderr
    assert "where: trainer.devices" in done.stderr and "in process 1" not in done.stderr
    assert not list(tmp_path.glob("multirun/*/*/*/checkpoints"))


@pytest.mark.parametrize("model", [["linear"], ["windowed_lstm", "model.width=8", "model.depth=1"]])
def test_other_models_of_frames(model, tmp_path):
    sizes = [setting for setting in TWO if not setting.startswith("model.")]
    short = ("model.context=5", "trainer.limit_train_batches=20")
    done = run(
        BIN / "phoneme-train", f"model={model[0]}", *model[1:], *sizes, *short, "hydra.run.dir=run", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    check_terminal(done.stderr)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    logged = [float(row["val/accuracy"]) for row in metrics(tmp_path / "run") if "val/accuracy" in row]
    assert summary["epochs"] == 2 and summary["val_accuracy"] == pytest.approx(max(logged), abs=1e-6)
    assert len((tmp_path / "run" / "prediction.csv").read_text().splitlines()) == 1 + 10_638


@pytest.mark.parametrize("model", ["gru", "lstm", "tcn", "conformer"])
def test_whole_utterances(model, tmp_path):
    """Each utterance in one process, as many batches in both, and statistics of batch norm that both end with.

    What the first process finds with the best checkpoint is what both have validated, the average of the weights.
    """
    done = run(
        BIN / "phoneme-train",
        f"model={model}",
        "augment=specaugment",
        "callbacks/averaging=ema",
        *TINY_SEQUENCE,
        "trainer.devices=2",
        "trainer.strategy=ddp",
        f"+callbacks.seen={{_target_: tests.cli.test_ddp.Seen, folder: {tmp_path}}}",
        "hydra.run.dir=run",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    check_terminal(done.stderr)
    seen = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    ids = read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")["phoneme"]["split"]["train"]
    for epoch in (0, 1):
        rows = torch.cat([process["frames"][epoch] for process in seen])
        assert len(rows.unique()) == len(rows) == len(ids)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert sum(int(process["sums"][1][2]) for process in seen) == summary["train_frames"]
    logged = [float(row["val/accuracy"]) for row in metrics(tmp_path / "run") if "val/accuracy" in row]
    assert summary["epochs"] == 2 and summary["val_accuracy"] == pytest.approx(max(logged), abs=1e-6)
