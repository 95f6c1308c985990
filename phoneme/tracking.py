"""Loggers: one surface for the CSV file and for Weights & Biases."""

import logging
import warnings
from pathlib import Path
from typing import Any

import wandb
from pytorch_lightning.loggers import Logger, WandbLogger


def keep_previous_metrics(folder: Path) -> None:
    """Put aside the metrics.csv of an earlier training in the same folder: Lightning's logger would delete it."""
    metrics = folder / "metrics.csv"
    if metrics.exists():
        number = len(list(folder.glob("metrics-*.csv"))) + 1
        metrics.rename(folder / f"metrics-{number}.csv")


def quieten_lightning() -> None:
    """Show Lightning's warnings, not its advertisements; each message once."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logger = logging.getLogger(name)
        logger.handlers.clear()  # its own, beside the root's: every line would appear twice
        logger.propagate = True
    logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message="Experiment logs directory .* exists and is not empty")
    warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated")


def log_config(loggers: list[Logger], config: dict[str, Any]) -> None:
    """Store the whole configuration with the run."""
    for logger in loggers:
        logger.log_hyperparams(config)


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
    for run in _wandb_runs(loggers):
        run.finish(exit_code=1 if failed else 0)


def _wandb_runs(loggers: list[Logger]) -> list[Any]:
    return [logger.experiment for logger in loggers if isinstance(logger, WandbLogger)]
