"""What a training leaves behind, beside what every run does: its best checkpoint judged, what its callbacks saw."""

import logging
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, Trainer

from phoneme import tracking
from phoneme.callbacks import CriticalPointMonitor, GradientLogger
from phoneme.checkpoint import load
from phoneme.classifier import PhonemeClassifier
from phoneme.datamodule import PhonemeData
from phoneme.plots import plot_gradients, plot_learning_curves, plot_timeline
from phoneme.runs.outcome import Outcome, judge, leave_files
from phoneme.runs.surface import leave_critical_point
from phoneme.store import FrameStore

log = logging.getLogger(__name__)


def conclude(
    trainer: Trainer,
    classifier: PhonemeClassifier,
    data: PhonemeData,
    test: FrameStore | None,
    folder: Path,
    train_score_share: float,
) -> tuple[Outcome, str | None]:
    """Judge the model of the best checkpoint (of the last update, if none was kept). One process does.

    Of the training utterances a share is enough where the model is slow. Also returns where that checkpoint is, in the
    run directory.
    """
    best = _best_checkpoint(trainer)
    model = load(best) if best else classifier.model
    trained_on = data.batches(evenly(data.split.train, train_score_share), data.eval_batch_size)
    outcome = judge(model, classifier.loss, data, trained_on, test, trainer.strategy.root_device)
    return outcome, str(best.relative_to(folder)) if best else None


def evenly(ids: tuple[str, ...], share: float) -> tuple[str, ...]:
    """A share of the ids, at least one, evenly from the first to the last.

    >>> evenly(("a", "b", "c", "d", "e"), 0.4)
    ('a', 'c')
    """
    count = max(1, round(share * len(ids)))
    return tuple(ids[i * len(ids) // count] for i in range(count))


def leave_training(
    outcome: Outcome,
    trainer: Trainer,
    classifier: PhonemeClassifier,
    settings: dict[str, Any],
    facts: dict[str, Any],
    folder: Path,
) -> dict[str, Any]:
    """Write the run's files and hand them to the dashboards; returns the summary."""
    monitor = _first(trainer, CriticalPointMonitor, "answer")
    gradients = _first(trainer, GradientLogger, "history")
    more = {"learning_curves": plot_learning_curves(classifier.history)}
    if gradients is not None:
        more["gradients"] = plot_gradients(gradients.history)
    if monitor is not None:
        more["surface_over_training"] = plot_timeline(monitor.timeline)
    facts = {
        "epochs": len(classifier.history),
        "seed": settings["seed"],
        "precision": trainer.precision,
        "processes": trainer.world_size,
    } | facts
    left = leave_files(outcome, facts, settings["data"]["sample_submission"], folder, more)
    figures = left.figures
    if monitor is not None:
        figures = figures + _leave_surface(monitor, classifier, folder)
    tracking.log_results(trainer.loggers, left.summary, figures, left.submission)
    return left.summary


def _leave_surface(monitor: CriticalPointMonitor, classifier: PhonemeClassifier, folder: Path) -> list[Path]:
    """The page and the figures about the last point of the error surface that `monitor` looked at."""
    when, answer = monitor.when, monitor.answer
    about = f"After {when['step']} updates: {when['reason']}."
    log.info("error surface: %s (%s)", folder / "index.html", answer.verdict.replace("_", " "))
    return leave_critical_point(answer, classifier.model, folder, about=about, extra=when)


def _first(trainer: Trainer, kind: type[Callback], found: str) -> Any:
    """The callback of this kind that has something in its attribute `found`, if there is one."""
    return next((c for c in trainer.callbacks if isinstance(c, kind) and getattr(c, found)), None)


def _best_checkpoint(trainer: Trainer) -> Path | None:
    """The file of the checkpoint callback that watches a metric, if there is one and it has saved."""
    for callback in trainer.checkpoint_callbacks:
        if callback.monitor is not None and callback.best_model_path:
            return Path(callback.best_model_path)
    return None
