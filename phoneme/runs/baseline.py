"""A model of scikit-learn on some of the training frames, evaluated and left as a training leaves its own."""

import logging
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jaxtyping import Int64
from torch import Tensor

from phoneme.baselines import ABSENT, Fitted, fit, make_estimator
from phoneme.batches import IndexBatches
from phoneme.checkpoint import load, make_recipe, write_checkpoint
from phoneme.columns import Features
from phoneme.datamodule import PhonemeData
from phoneme.errors import InputError
from phoneme.losses import make_loss
from phoneme.models.frame import check_context
from phoneme.runs.data import Stores, open_stores, prepare
from phoneme.runs.device import pick_device
from phoneme.runs.outcome import judge, leave_files
from phoneme.runs.seed import check_seed
from phoneme.splits import Split, split_ids

log = logging.getLogger(__name__)

CHECKPOINT = "checkpoints/best.ckpt"  # where phoneme-train has its own


def run_baseline(settings: dict[str, Any], portable: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Fit as `settings` say and leave the run's files in `folder`; returns the summary.

    `portable` is the same configuration with its interpolations kept; it goes into the checkpoint.
    """
    start = time.perf_counter()
    seed, section = settings["seed"], settings["data"]
    check_seed(seed)
    check_context(settings["context"], where="context")
    estimator = make_estimator(**settings["baseline"], seed=seed)
    loss, device = make_loss(**settings["loss"]), pick_device(settings["device"])
    stores = open_stores(section, Features(**settings["features"]))
    split = split_ids(stores.train.ids, stores.train.speakers, copies=stores.train.copies, **section["split"])
    data = prepare(section, stores, split, unit="frame", context=settings["context"], seed=seed)
    index = _draw(data, settings["frames"], seed)
    sample = data.gather(index)
    log.info(
        "%s: fitting to %d frames of %d numbers each", type(estimator).__name__, len(index), sample.inputs[0].numel()
    )
    fitted = fit(estimator, sample.inputs, sample.targets, len(stores.train.phones))
    _say(fitted, stores.train.phones.phones)
    path = folder / CHECKPOINT
    history = [{"epoch": epoch, "train/loss": value} for epoch, value in enumerate(fitted.losses)]
    recipe = _recipe(fitted, stores, split, portable)
    write_checkpoint(path, fitted.network, recipe, step=fitted.iterations, history=history)
    data.place(device)
    trained_on = IndexBatches(index.to(data.store.frames.device), data.eval_batch_size)
    outcome = judge(load(path), loss, data, trained_on, stores.test, device)
    facts = _facts(fitted, settings) | {"wall_seconds": round(time.perf_counter() - start, 2)}
    return leave_files(outcome, facts, section["sample_submission"], folder).summary


def _draw(data: PhonemeData, frames: int, seed: int) -> Int64[Tensor, "n"]:
    """The frames to fit to. Raises InputError for fewer than there are classes; all, with a warning, for too many."""
    classes = len(data.store.phones)
    if frames < classes:
        raise InputError(
            expected=f"at least {classes} frames, one a class",
            got=frames,
            where="frames",
            hint="20000 is the default: some classes are rare",
        )
    index = data.draw(data.split.train, frames, seed)
    if len(index) < frames:
        log.warning("frames=%d: there are %d training frames, all are taken", frames, len(index))
    return index


def _say(fitted: Fitted, phones: tuple[str, ...]) -> None:
    log.info(
        "%s after %d iterations, %.1f CPU-seconds",
        "converged" if fitted.converged else "stopped",
        fitted.iterations,
        fitted.cpu_seconds,
    )
    if fitted.absent:
        names = ", ".join(phones[index] for index in fitted.absent)
        log.warning("no frame of %s among these: never the answer (logit %.0f); take more frames", names, ABSENT)


def _recipe(fitted: Fitted, stores: Stores, split: Split, portable: dict[str, Any]) -> dict[str, Any]:
    return make_recipe(
        model=fitted.section,
        coeffs=stores.train.coeffs,
        features=stores.features.to_dict(),
        phones=stores.train.phones.to_dict(),
        split={side: list(ids) for side, ids in asdict(split).items()},
        config=portable,
    )


def _facts(fitted: Fitted, settings: dict[str, Any]) -> dict[str, Any]:
    """What the summary says of the fit."""
    return {
        "baseline": settings["baseline"]["name"],
        "converged": fitted.converged,
        "iterations": fitted.iterations,
        "cpu_seconds": round(fitted.cpu_seconds, 2),
        "absent_classes": list(fitted.absent),
        "seed": settings["seed"],
        "best_checkpoint": CHECKPOINT,
    }
