"""What a run leaves behind of its model: scores, the submission, pictures, the summary."""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from matplotlib.figure import Figure
from torch import Tensor, nn

from phoneme.batches import Batches
from phoneme.callbacks import peak_memory
from phoneme.datamodule import PhonemeData
from phoneme.evaluation import Evaluation, evaluate, predict
from phoneme.files import write_json
from phoneme.models import count_parameters
from phoneme.phones import PhoneTable
from phoneme.plots import plot_confusion, save
from phoneme.runs.versions import versions
from phoneme.store import FrameStore
from phoneme.submission import write_submission

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """A model and what was found with it."""

    model: nn.Module
    phones: PhoneTable
    validation: Evaluation
    training: Evaluation
    predictions: UInt8[Tensor, "frame"] | None
    device: torch.device


@dataclass(frozen=True)
class Left:
    """What stands in the run directory."""

    summary: dict[str, Any]
    figures: list[Path]
    submission: Path | None


def judge(
    model: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    data: PhonemeData,
    trained_on: Batches,
    test: FrameStore | None,
    device: torch.device,
) -> Outcome:
    """Evaluate `model` on every validation frame and on those it was trained on, and predict the test split."""
    return Outcome(
        model=model,
        phones=data.store.phones,
        validation=evaluate(model, loss, data, data.batches(data.split.val, data.eval_batch_size), device),
        training=evaluate(model, loss, data, trained_on, device),
        predictions=None if test is None else predict(model, test, device, data.eval_batch_size, data.batch_utterances),
        device=device,
    )


def leave_files(
    outcome: Outcome,
    facts: dict[str, Any],
    sample_submission: str | None,
    folder: Path,
    more: dict[str, Figure] | None = None,
) -> Left:
    """Write prediction.csv, the pictures and summary.json, and say the main results.

    `facts` about the run, `wall_seconds` among them, go into the summary; `more` are further pictures by name.
    """
    submission = None
    if outcome.predictions is not None:
        submission = write_submission(
            folder / "prediction.csv", outcome.predictions, len(outcome.predictions), sample_submission
        )
    title = f"validation accuracy {outcome.validation.metrics['accuracy']:.4f}"
    confusion = plot_confusion(outcome.validation.confusion.numpy(), outcome.phones.phones, title)
    figures = {"confusion_matrix": confusion} | (more or {})
    paths = [save(figure, folder / "figures" / f"{name}.png") for name, figure in figures.items()]
    summary = summarise(outcome, facts)
    write_json(folder / "summary.json", summary)
    log.info(
        "validation accuracy %.4f (without silence %.4f), training accuracy %.4f, %s%.0f s",
        outcome.validation.metrics["accuracy"],
        outcome.validation.metrics["accuracy_without_silence"],
        outcome.training.metrics["accuracy"],
        f"{facts['epochs']} epochs, " if "epochs" in facts else "",
        facts["wall_seconds"],
    )
    if submission is not None:
        log.info("submission: %s", submission)
    log.info("pictures:   %s\nsummary:    %s", folder / "figures", folder / "summary.json")
    return Left(summary, paths, submission)


def summarise(outcome: Outcome, facts: dict[str, Any]) -> dict[str, Any]:
    """The run in one dictionary of primitives; a share over no frames is None."""
    validation, training = outcome.validation, outcome.training
    recall = zip(outcome.phones.phones, validation.recall.tolist(), strict=True)
    return {
        **{f"val_{name}": _rounded(value) for name, value in validation.metrics.items()},
        **{f"train_{name}": _rounded(training.metrics[name]) for name in ("accuracy", "loss")},
        "val_frames": int(validation.confusion.sum()),
        "train_frames": int(training.confusion.sum()),
        "parameters": count_parameters(outcome.model),
        **facts,
        "device": outcome.device.type,
        **peak_memory(outcome.device),
        "versions": versions(),
        "val_recall_by_phone": {phone: _rounded(value) for phone, value in recall},
    }


def _rounded(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
