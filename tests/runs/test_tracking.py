"""What a run tells its loggers: metrics.csv, and Weights & Biases by its own SDK, read back from its file."""

import base64
import csv
import hashlib
import json
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from wandb.proto.wandb_internal_pb2 import Record

from phoneme.errors import InputError
from phoneme.tracking import keep_previous_metrics
from tests.helpers import TINY, environment, train_in

METRICS = {
    "epoch",
    "step",
    "train/loss",
    "train/accuracy",
    "train/loss_step",
    "train/learning_rate",
    "train/frames_per_second",
    "train/data_seconds",
    "train/peak_memory_gib",
    "train/model_flops_per_second",
    "val/loss",
    "val/accuracy",
    "val/accuracy_without_silence",
    "val/accuracy_at_boundaries",
    "val/accuracy_at_centres",
    "val/calibration_error",
}


def records(path: Path) -> Iterator[Record]:
    """The records of a `.wandb` file: LevelDB's log format (blocks of 32 KiB) after a header of 7 bytes."""
    data, at, parts = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield Record.FromString(parts)
            parts = b""


def values(items) -> dict:
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}


@dataclass
class WandbRun:
    """One job of a sweep: its folder, and what its `.wandb` file says."""

    folder: Path

    def __post_init__(self):
        (self.file,) = self.folder.glob("wandb/offline-run-*/*.wandb")
        self.records = list(records(self.file))
        self.history = [values(r.history.item) for r in self.of("history")]

    def of(self, kind: str) -> list[Record]:
        return [r for r in self.records if r.WhichOneof("record_type") == kind]

    def merged(self, kind: str) -> dict:
        return {k: v for r in self.of(kind) for k, v in values(getattr(r, kind).update).items()}


@dataclass
class Sweep:
    returncode: int
    stderr: str
    diverged: WandbRun
    good: WandbRun


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> Sweep:
    """Two jobs of one process: the first diverges, the second is a training as any other."""
    folder = tmp_path_factory.mktemp("sweep")
    quiet_by_itself = {k: v for k, v in environment().items() if k != "WANDB_SILENT"}
    done = subprocess.run(
        [
            Path(sys.executable).with_name("phoneme-train"),
            "-m",
            *TINY,
            "logger=wandb_offline",
            "optim=sgd",
            "model.norm=none",
            "optim.lr=1e30,0.1",
            f"hydra.sweep.dir={folder}",
        ],
        cwd=folder,
        env=quiet_by_itself | {"WANDB_DATA_DIR": str(folder / "staging")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return Sweep(done.returncode, done.stderr, WandbRun(folder / "0"), WandbRun(folder / "1"))


def test_a_run_a_job_with_its_own_configuration(sweep):
    ids = [job.of("run")[0].run.run_id for job in (sweep.diverged, sweep.good)]
    assert ids[0] != ids[1] and all(
        job.file.name == f"run-{i}.wandb" for i, job in zip(ids, (sweep.diverged, sweep.good), strict=True)
    )
    assert [job.merged("config")["optim"]["lr"] for job in (sweep.diverged, sweep.good)] == [1e30, 0.1]


def test_the_whole_configuration_is_stored(sweep):
    config = sweep.good.merged("config")
    assert {"seed", "data", "model", "loss", "optim", "schedule", "trainer", "callbacks"} <= config.keys()
    assert config["model"]["width"] == 32 and config["data"]["split"]["val_fraction"] == 0.2


def test_a_job_that_fails_is_marked_and_does_not_stop_the_next(sweep):
    assert sweep.returncode == 1
    assert [job.of("exit")[0].exit.exit_code for job in (sweep.diverged, sweep.good)] == [1, 0]
    assert sweep.stderr.count("error") == 1 and "error in job 0: expected a finite loss" in sweep.stderr
    assert not (sweep.diverged.folder / "summary.json").exists() and not sweep.diverged.of("artifact")


def test_the_terminal_gets_one_line_of_it_a_job(sweep):
    said = [line for line in sweep.stderr.splitlines() if "wandb" in line.lower()]
    assert [line.split("`")[1] for line in said if line.startswith("W&B, offline")] == [
        f"wandb sync {job.file.parent}" for job in (sweep.diverged, sweep.good)
    ]
    others = [line for line in said if not line.startswith("W&B, offline")]
    assert all("logger=wandb_offline" in line for line in others)  # Hydra's line about a job


def test_both_loggers_get_the_same_numbers(sweep):
    with (sweep.good.folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0].keys() == METRICS
    assert {name for row in sweep.good.history for name in row} >= METRICS - {"step"}
    for row in rows:
        expected = {k: float(v) for k, v in row.items() if v}
        expected["trainer/global_step"] = expected.pop("step")
        assert any(expected.items() <= entry.items() for entry in sweep.good.history), row


def test_figures_are_images(sweep):
    logged = {name: value for entry in sweep.good.history for name, value in entry.items()}
    for name in ("confusion_matrix", "learning_curves"):
        assert logged[f"figures/{name}._type"] == "image-file"
        kept = sweep.good.file.parent / "files" / logged[f"figures/{name}.path"]
        assert kept.read_bytes() == (sweep.good.folder / "figures" / f"{name}.png").read_bytes()


def test_the_submission_is_an_artifact(sweep):
    (record,) = sweep.good.of("artifact")
    assert record.artifact.type == "submission"
    (entry,) = record.artifact.manifest.contents
    content = (sweep.good.folder / "prediction.csv").read_bytes()
    assert entry.path == "prediction.csv" and entry.size == len(content)
    assert entry.digest == base64.b64encode(hashlib.md5(content).digest()).decode()


def test_the_summary(sweep):
    said = sweep.good.merged("summary")
    for name, value in json.loads((sweep.good.folder / "summary.json").read_text()).items():
        assert said[f"final/{name}"] == value


def test_without_a_key_the_hint_is_to_work_offline(tmp_path, monkeypatch):
    for name in ("WANDB_MODE", "WANDB_API_KEY", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"a run of Weights & Biases, got No API key[\s\S]*wandb_offline"):
        train_in(tmp_path, "logger=wandb")
    assert not (tmp_path / "checkpoints").exists()


def test_no_logger_leaves_no_metrics(tmp_path):
    train_in(tmp_path, "logger=none", "trainer.max_epochs=1", "trainer.limit_train_batches=20")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"checkpoints", "figures", "prediction.csv", "summary.json"}


def test_the_metrics_of_an_earlier_training_are_kept(tmp_path):
    for content in ("first", "second"):
        (tmp_path / "metrics.csv").write_text(content)
        keep_previous_metrics(tmp_path)
    keep_previous_metrics(tmp_path)
    left = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert left == {"metrics-1.csv": "first", "metrics-2.csv": "second"}
