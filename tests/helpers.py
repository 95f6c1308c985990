"""Runs as a user makes them: composed by Hydra, trained on the bundled speech, tiny."""

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf, open_dict
from pytorch_lightning import Callback

from phoneme.config import CONF, register_schemas
from phoneme.runs.baseline import run_baseline
from phoneme.runs.train import train

TINY = (
    "model.width=32",
    "model.depth=2",
    "model.context=5",
    "trainer.max_epochs=2",
    "schedule.warmup_steps=5",
    "trainer.enable_progress_bar=false",
    "trainer.accelerator=cpu",
    "trainer.log_every_n_steps=10",
)

TINY_SEQUENCE = (
    "model.width=16",
    "model.depth=1",
    "data.batch_frames=2000",
    *(setting for setting in TINY if not setting.startswith("model.")),
)


def settings_of(folder: Path, *overrides: str, tiny: bool = True) -> dict[str, dict[str, Any]]:
    """`settings` and `portable` for `phoneme.runs.train.train`, as the command line composes them."""
    return composed("train", folder, *(TINY if tiny else ("trainer.accelerator=cpu",)), *overrides)


def composed(command: str, folder: Path, *overrides: str) -> dict[str, dict[str, Any]]:
    """`settings` and `portable` of a job of a command, whose run directory is `folder`."""
    register_schemas()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(command, list(overrides), return_hydra_config=True)
    with open_dict(config):
        config.hydra.runtime.output_dir = str(folder)
        HydraConfig.instance().set_config(config)
        del config["hydra"]
    return {
        "settings": OmegaConf.to_container(config, resolve=True),
        "portable": OmegaConf.to_container(config, resolve=False),
    }


def train_in(folder: Path, *overrides: str, tiny: bool = True) -> dict[str, Any]:
    """Train in this process, a tiny network unless `tiny` is off; returns the summary."""
    folder.mkdir(parents=True, exist_ok=True)
    return train(**settings_of(folder, *overrides, tiny=tiny), folder=folder)


TINY_BASELINE = ("frames=1500", "context=3", "device=cpu")


def baseline_in(folder: Path, *overrides: str) -> dict[str, Any]:
    """Fit a baseline in this process, to few frames; returns the summary."""
    return run_baseline(**composed("baseline", folder, *TINY_BASELINE, *overrides), folder=folder)


def command(name: str, *overrides: str, cwd: Path, timeout: float = 120) -> subprocess.CompletedProcess:
    """Run `phoneme-NAME` in a process of its own and wait for it."""
    return subprocess.run(
        [sys.executable, "-m", f"phoneme.cli.{name}", *overrides],
        cwd=cwd,
        timeout=timeout,
        capture_output=True,
        text=True,
        env=environment(),
    )


def environment() -> dict[str, str]:
    """This process's environment with one thread, and no network for W&B."""
    return os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "offline", "WANDB_SILENT": "true"}


OF_THE_CLOCK = {
    "train/frames_per_second",
    "train/data_seconds",
    "train/model_flops_per_second",
    "train/model_flops_utilisation",
    "train/peak_memory_gib",
    "train/peak_gpu_memory_gib",
}


def metrics(folder: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv without what depends on the clock and on the process."""
    with (folder / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if v and k not in OF_THE_CLOCK} for row in csv.DictReader(file)]


class PullThePlug(Callback):
    """Ends the training at once when `step` updates are done, as a crash would."""

    def __init__(self, step: int):
        self.step = step

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.global_step == self.step:
            raise RuntimeError("the plug was pulled")
