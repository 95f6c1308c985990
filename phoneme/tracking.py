"""Loggers: one surface for the CSV file and for Weights & Biases."""

from pathlib import Path
from typing import Any

import wandb
from pytorch_lightning.loggers import Logger, WandbLogger


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
