"""Loggers: one surface for the CSV file and for Weights & Biases."""

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import wandb
from pytorch_lightning.loggers import Logger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from phoneme.errors import InputError

log = logging.getLogger(__name__)


class Wandb(WandbLogger):
    """Lightning's WandbLogger without the argument that wandb 0.31 warns of.

    `settings` are those of `wandb.Settings`. The first use raises InputError when there is no W&B to be had.
    """

    def __init__(
        self,
        project: str,
        save_dir: str,
        name: str | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
        notes: str | None = None,
        offline: bool = False,
        settings: dict[str, Any] | None = None,
    ):
        super().__init__(
            project=project,
            save_dir=save_dir,
            name=name,
            group=group,
            tags=list(tags),
            notes=notes,
            offline=offline,
            settings=settings,
        )
        del self._wandb_init["anonymous"]


@rank_zero_only
def keep_previous_metrics(folder: Path) -> None:
    """Put aside the metrics.csv of an earlier training in the same folder: Lightning's logger would delete it."""
    metrics = folder / "metrics.csv"
    if metrics.exists():
        number = len(list(folder.glob("metrics-*.csv"))) + 1
        kept = metrics.rename(folder / f"metrics-{number}.csv")
        log.info("%s holds an earlier run: its files are replaced, but for its metrics, now %s", folder, kept.name)


def quieten_lightning() -> None:
    """Show Lightning's warnings, not its advertisements; each message once."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logger = logging.getLogger(name)
        logger.handlers.clear()  # its own, beside the root's: every line would appear twice
        logger.propagate = True
    for name in (
        "pytorch_lightning.utilities.rank_zero",
        "lightning_fabric.utilities.distributed",
        "pytorch_lightning.trainer.connectors.signal_connector",
    ):
        logging.getLogger(name).setLevel(logging.WARNING)
    # our batches are already the same ones each epoch then
    warnings.filterwarnings("ignore", message="You requested to overfit but enabled .* dataloader shuffling")
    # we count updates through the epochs, so an epoch shorter than log_every_n_steps loses nothing
    warnings.filterwarnings("ignore", message="The number of training batches .* is smaller than the logging interval")
    # we say it ourselves
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
    warnings.filterwarnings("ignore", message="Experiment logs directory .* exists and is not empty")
    warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated")


def log_config(loggers: list[Logger], config: dict[str, Any]) -> None:
    """Store the whole configuration with the run. Raises InputError if a dashboard cannot be reached."""
    for logger in loggers:
        try:
            logger.log_hyperparams(config)
        except wandb.errors.Error as error:
            raise InputError(
                expected="a run of Weights & Biases",
                got=error,
                where="logger.wandb",
                hint="`wandb login` once, or logger=wandb_offline and `wandb sync` later",
            ) from error
    for run in _wandb_runs(loggers):
        if run.offline:
            log.info("W&B, offline: upload with `wandb sync %s`", Path(run.dir).parent)


def log_results(loggers: list[Logger], summary: dict[str, Any], figures: list[Path], submission: Path | None) -> None:
    """Hand the summary, the figures and the submission (as an artifact) to the dashboards."""
    for run in _wandb_runs(loggers):
        run.summary.update({f"final/{name}": value for name, value in summary.items()})
        run.log({f"figures/{path.stem}": wandb.Image(str(path)) for path in figures})
        if submission is not None:
            artifact = wandb.Artifact("prediction", type="submission")
            artifact.add_file(str(submission))
            run.log_artifact(artifact)


def finish(loggers: list[Logger], failed: bool) -> None:
    """End the runs, so that the next job of a multirun gets its own and a failed one is shown as failed."""
    if wandb.run is not None:  # else it has failed to start
        for run in _wandb_runs(loggers):
            run.finish(exit_code=1 if failed else 0)


def _wandb_runs(loggers: list[Logger]) -> list[Any]:
    """Those of the first process: the others have none."""
    return [logger.experiment for logger in loggers if isinstance(logger, WandbLogger) and rank_zero_only.rank == 0]
