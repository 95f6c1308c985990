"""What a training leaves behind: scores of its best model, the submission, pictures, the summary."""

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import Logger
from torch import Tensor, nn

from phoneme import tracking
from phoneme.callbacks import CriticalPointMonitor, GradientLogger, peak_memory
from phoneme.checkpoint import load
from phoneme.classifier import PhonemeClassifier
from phoneme.datamodule import PhonemeData
from phoneme.evaluation import Evaluation, evaluate, predict
from phoneme.files import write_json
from phoneme.models import count_parameters
from phoneme.phones import PhoneTable
from phoneme.plots import plot_confusion, plot_gradients, plot_learning_curves, plot_timeline, save
from phoneme.runs.surface import leave_critical_point
from phoneme.runs.versions import versions
from phoneme.store import FrameStore
from phoneme.submission import write_submission

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """The model of the best checkpoint (of the last update, if none was kept), and what was found with it."""

    model: nn.Module
    checkpoint: Path | None
    phones: PhoneTable
    validation: Evaluation
    training: Evaluation
    predictions: UInt8[Tensor, "frame"] | None
    history: list[dict[str, int | float]]
    device: torch.device
    monitor: CriticalPointMonitor | None  # with what it saw in training
    gradients: GradientLogger | None  # likewise
    trained: nn.Module  # the network of the last update, which the monitor saw


def conclude(
    trainer: Trainer,
    classifier: PhonemeClassifier,
    data: PhonemeData,
    test: FrameStore | None,
    folder: Path,
    train_score_share: float,
) -> Outcome:
    """Evaluate the best model on every validation frame and on a share of the training utterances, and predict the test
    split. One process does."""
    device = trainer.strategy.root_device
    best = _best_checkpoint(trainer)
    model = load(best) if best else classifier.model
    return Outcome(
        model=model,
        checkpoint=best.relative_to(folder) if best else None,
        phones=data.store.phones,
        validation=evaluate(model, classifier.loss, data, data.split.val, device),
        training=evaluate(model, classifier.loss, data, evenly(data.split.train, train_score_share), device),
        predictions=None if test is None else predict(model, test, device, data.eval_batch_size),
        history=classifier.history,
        device=device,
        monitor=next((c for c in trainer.callbacks if isinstance(c, CriticalPointMonitor) and c.answer), None),
        gradients=next((c for c in trainer.callbacks if isinstance(c, GradientLogger) and c.history), None),
        trained=classifier.model,
    )


def evenly(ids: tuple[str, ...], share: float) -> tuple[str, ...]:
    """A share of the ids, at least one, evenly from the first to the last.

    >>> evenly(("a", "b", "c", "d", "e"), 0.4)
    ('a', 'c')
    """
    count = max(1, round(share * len(ids)))
    return tuple(ids[i * len(ids) // count] for i in range(count))


def leave_files(
    outcome: Outcome, settings: dict[str, Any], speed: dict[str, float], folder: Path, loggers: list[Logger]
) -> dict[str, Any]:
    """Write prediction.csv, the pictures and summary.json, and hand them to the dashboards; returns the summary."""
    submission = None
    if outcome.predictions is not None:
        submission = write_submission(
            folder / "prediction.csv",
            outcome.predictions,
            len(outcome.predictions),
            settings["data"]["sample_submission"],
        )
    figures = _pictures(outcome, folder)
    summary = summarise(outcome, settings) | speed
    write_json(folder / "summary.json", summary)
    tracking.log_results(loggers, summary, figures, submission)
    log.info(
        "validation accuracy %.4f (without silence %.4f), training accuracy %.4f, %d epochs, %.0f s",
        outcome.validation.metrics["accuracy"],
        outcome.validation.metrics["accuracy_without_silence"],
        outcome.training.metrics["accuracy"],
        summary["epochs"],
        summary["wall_seconds"],
    )
    if submission is not None:
        log.info("submission: %s", submission)
    log.info("pictures:   %s\nsummary:    %s", folder / "figures", folder / "summary.json")
    return summary


def _pictures(outcome: Outcome, folder: Path) -> list[Path]:
    """Of the scores, and of the error surface where a monitor looked at it (with its page)."""
    title = f"validation accuracy {outcome.validation.metrics['accuracy']:.4f}"
    figures = {
        "confusion_matrix": plot_confusion(outcome.validation.confusion.numpy(), outcome.phones.phones, title),
        "learning_curves": plot_learning_curves(outcome.history),
    }
    if outcome.gradients is not None:
        figures["gradients"] = plot_gradients(outcome.gradients.history)
    if outcome.monitor is not None:
        figures["surface_over_training"] = plot_timeline(outcome.monitor.timeline)
    paths = [save(figure, folder / "figures" / f"{name}.png") for name, figure in figures.items()]
    if outcome.monitor is None:
        return paths
    when, answer = outcome.monitor.when, outcome.monitor.answer
    about = f"After {when['step']} updates: {when['reason']}."
    log.info("error surface: %s (%s)", folder / "index.html", answer.verdict.replace("_", " "))
    return paths + leave_critical_point(answer, outcome.trained, folder, about=about, extra=when)


def summarise(outcome: Outcome, settings: dict[str, Any]) -> dict[str, Any]:
    """The run in one dictionary of primitives; a share over no frames is None."""
    validation, training = outcome.validation, outcome.training
    recall = zip(outcome.phones.phones, validation.recall.tolist(), strict=True)
    return {
        **{f"val_{name}": _rounded(value) for name, value in validation.metrics.items()},
        **{f"train_{name}": _rounded(training.metrics[name]) for name in ("accuracy", "loss")},
        "val_frames": int(validation.confusion.sum()),
        "train_frames": int(training.confusion.sum()),
        "parameters": count_parameters(outcome.model),
        "epochs": len(outcome.history),
        "seed": settings["seed"],
        "best_checkpoint": str(outcome.checkpoint) if outcome.checkpoint else None,
        "precision": settings["trainer"]["precision"],
        "device": outcome.device.type,
        "processes": settings["processes"],
        **peak_memory(outcome.device),
        "versions": versions(),
        "val_recall_by_phone": {phone: _rounded(value) for phone, value in recall},
    }


def _rounded(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None


def _best_checkpoint(trainer: Trainer) -> Path | None:
    """The file of the checkpoint callback that watches a metric, if there is one and it has saved."""
    for callback in trainer.checkpoint_callbacks:
        if callback.monitor is not None and callback.best_model_path:
            return Path(callback.best_model_path)
    return None
