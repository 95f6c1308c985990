"""What is left of a training that is killed, interrupted or terminated, or finds the disk full."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Callback
from pytorch_lightning.utilities.exceptions import SIGTERMException

from phoneme.checkpoint import read_checkpoint
from tests.helpers import TINY, command, environment, metrics, train_in

ROOT = Path(__file__).parents[2]
LONG = "trainer.max_epochs=1000"  # ends by the signal only


class Pause(Callback):
    """Stops for good after update `step`, so that a signal finds the training there."""

    def __init__(self, step: int):
        self.step = step

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step:
            Path(trainer.default_root_dir, "paused").touch()
            time.sleep(300)


class Terminated(Callback):
    """What Lightning raises after SIGTERM, at the first update."""

    def on_train_batch_end(self, *_):
        raise SIGTERMException


def start(folder: Path, *overrides: str) -> subprocess.Popen:
    folder.mkdir()
    return subprocess.Popen(
        [sys.executable, "-m", "phoneme.cli.train", *TINY, *overrides, f"hydra.run.dir={folder}"],
        cwd=folder,
        env=environment() | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(there: Callable[[], bool], process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 100
    while not there():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1]
        time.sleep(0.02)


def in_second_epoch(folder: Path) -> Callable[[], bool]:
    """Whether metrics.csv has a row of the second epoch: the first one's checkpoint is then written."""
    return lambda: (folder / "metrics.csv").exists() and any(row["epoch"] == "1" for row in metrics(folder))


def test_a_killed_training_continues_bitwise(tmp_path):
    whole = ("model.dropout=0.5", "trainer.max_epochs=3")
    pause = "+callbacks.pause={_target_: tests.cli.test_signals.Pause, step: 100}"
    process = start(tmp_path / "first", *whole, pause)
    wait_until((tmp_path / "first" / "paused").exists, process)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    last = tmp_path / "first" / "checkpoints" / "last.ckpt"
    resumed_at = read_checkpoint(last)["global_step"]
    assert resumed_at == 63
    for name, more in (("second", [f"ckpt_path={last}"]), ("uninterrupted", [])):
        done = command("train", *TINY, *whole, *more, f"hydra.run.dir={tmp_path / name}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    after = [row for row in metrics(tmp_path / "uninterrupted") if int(row["step"]) >= resumed_at]
    assert metrics(tmp_path / "second") == after and len(after) > 10
    weights = [
        read_checkpoint(tmp_path / name / "checkpoints" / "last.ckpt")["state_dict"]
        for name in ("second", "uninterrupted")
    ]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_training_says_how_to_continue(number, code, tmp_path):
    folder = tmp_path / "run"
    process = start(folder, LONG)
    wait_until(in_second_epoch(folder), process)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    last = folder / "checkpoints" / "last.ckpt"
    assert said.splitlines()[-1].endswith(f": continue with ckpt_path={last}"), said
    assert said.count("ckpt_path") == 1 and "Traceback" not in said and "rank" not in said
    assert read_checkpoint(last)["global_step"] >= 63
    assert {p.name for p in last.parent.iterdir()} == {"best.ckpt", "last.ckpt"}


def test_an_interruption_before_the_first_checkpoint(tmp_path, caplog):
    with pytest.raises(SystemExit) as stop:
        train_in(tmp_path, "+callbacks.stop={_target_: tests.cli.test_signals.Terminated}")
    assert stop.value.code == 143
    assert "interrupted in epoch 0: there is no checkpoint yet" in caplog.text


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the files of another process")
def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path):
    import resource

    folder = tmp_path / "run"
    process = start(folder, LONG)
    wait_until(in_second_epoch(folder), process)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (65_536, 65_536))  # half a checkpoint, in bytes
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1, said
    assert "File too large\n  where: " + str(folder / "checkpoints") in said and "free disk space" in said
    assert said.count("error") == 1 and "Traceback" not in said
    assert {p.name for p in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    for name in ("best", "last"):
        assert read_checkpoint(folder / "checkpoints" / f"{name}.ckpt")["global_step"] >= 63
