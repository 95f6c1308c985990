"""One training: data, model, trainer, then what the run leaves behind."""

import logging
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pytorch_lightning import Trainer, seed_everything
from pytorch_lightning.callbacks import ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch import nn

from phoneme import tracking
from phoneme.build import build
from phoneme.callbacks import EpochLines, Throughput
from phoneme.checkpoint import AtomicCheckpointIO, check_resumable, load, make_recipe, read_checkpoint
from phoneme.classifier import PhonemeClassifier
from phoneme.datamodule import PhonemeData
from phoneme.errors import InputError
from phoneme.evaluation import evaluate, predict
from phoneme.losses import make_loss
from phoneme.models import count_parameters
from phoneme.plots import plot_confusion, plot_learning_curves, save
from phoneme.runs.data import Stores, open_stores
from phoneme.runs.files import peak_memory, versions, write_json
from phoneme.splits import Split, split_ids
from phoneme.submission import check_sample, write_submission

log = logging.getLogger(__name__)

PROGRESS_EVERY = 20  # updates between two redraws of the bar
TERMINATED = 143  # the shell's exit code for SIGTERM: 128 + 15


def train(settings: dict[str, Any], portable: dict[str, Any], folder: Path, multirun: bool = False) -> dict[str, Any]:
    """Train as `settings` say and leave the run's files in `folder`; returns the summary.

    `portable` is the same configuration with its interpolations kept; it goes into the checkpoints.
    """
    start = time.perf_counter()
    tracking.quieten_lightning()
    stores = open_stores(settings["data"])
    checkpoint = read_checkpoint(settings["ckpt_path"]) if settings["ckpt_path"] else None
    split = _split(stores, settings["data"]["split"], checkpoint)
    seed_everything(settings["seed"], verbose=False)
    phones = stores.train.phones
    model = build(settings["model"], "model", coeffs=stores.train.coeffs, classes=len(phones))
    recipe = make_recipe(
        model=settings["model"],
        coeffs=stores.train.coeffs,
        phones=phones.to_dict(),
        split={side: list(ids) for side, ids in asdict(split).items()},
        config=portable,
    )
    if checkpoint is not None:
        check_resumable(checkpoint, recipe, settings["ckpt_path"])
    if settings["compile"]:
        model.compile()
    loss = make_loss(**settings["loss"])
    classifier = PhonemeClassifier(
        model,
        loss,
        phones,
        optim=settings["optim"],
        schedule=settings["schedule"],
        seed=settings["seed"],
        recipe=recipe,
    )
    data = _data(settings, stores, split, model)
    trainer, throughput = _trainer(settings, folder, multirun)
    try:
        tracking.log_config(trainer.loggers, portable)
        _fit(trainer, classifier, data, settings["ckpt_path"])
        summary = {}
        if trainer.is_global_zero:
            summary = _conclude(trainer, classifier, data, stores, settings, folder, throughput, start)
    except BaseException:
        tracking.finish(trainer.loggers, failed=True)
        raise
    tracking.finish(trainer.loggers, failed=False)
    return summary


def _split(stores: Stores, options: dict[str, Any], checkpoint: dict[str, Any] | None) -> Split:
    """The checkpoint's own split when a training continues, else a new one."""
    store = stores.train
    if checkpoint is None:
        return split_ids(store.ids, store.speakers, **options)
    saved = Split(**{side: tuple(ids) for side, ids in checkpoint["phoneme"]["split"].items()})
    unknown = sorted({*saved.train, *saved.val} - set(store.ids))
    if unknown:
        raise InputError(
            expected="the utterances the checkpoint was trained on",
            got=f"{len(unknown)} missing, e.g. {unknown[0]}",
            where="data.root",
            hint="continue on the same data as before",
        )
    return saved


def _data(settings: dict[str, Any], stores: Stores, split: Split, model: nn.Module) -> PhonemeData:
    section = settings["data"]
    if stores.test is not None and section["sample_submission"]:
        check_sample(section["sample_submission"], stores.test.n_frames)
    log.info(
        "%s: %d utterances to train on, %d to validate, %d to predict",
        section["name"],
        len(split.train),
        len(split.val),
        len(stores.test) if stores.test else 0,
    )
    return PhonemeData(
        stores.train,
        split,
        unit=model.unit,
        context=getattr(model, "context", 1),
        batch_size=section["batch_size"],
        eval_batch_size=section["eval_batch_size"],
        device=section["device"],
        seed=settings["seed"],
    )


def _trainer(settings: dict[str, Any], folder: Path, multirun: bool) -> tuple[Trainer, Throughput]:
    callbacks = [build(section, f"callbacks.{name}") for name, section in settings["callbacks"].items() if section]
    tracking.keep_previous_metrics(folder)
    loggers = [build(section, f"logger.{name}") for name, section in settings["logger"].items() if section]
    section = dict(settings["trainer"])
    if section["enable_progress_bar"]:
        section["enable_progress_bar"] = sys.stdout.isatty()
        callbacks.append(TQDMProgressBar(PROGRESS_EVERY) if sys.stdout.isatty() else EpochLines())
    throughput = Throughput()
    trainer = build(
        section,
        "trainer",
        callbacks=[*callbacks, throughput],
        logger=loggers,
        plugins=[AtomicCheckpointIO()],
        default_root_dir=str(folder),
        use_distributed_sampler=False,
        enable_checkpointing=any(isinstance(c, ModelCheckpoint) for c in callbacks),
    )
    if multirun and trainer.world_size > 1:
        raise InputError(
            expected="one process a job in a multirun",
            got=f"{trainer.world_size} processes",
            where="trainer.devices",
            hint="each process would start the whole sweep again: set trainer.devices=1, or start the jobs one by one",
        )
    log.info(
        "%s, %d process(es), precision %s",
        trainer.strategy.root_device,
        trainer.world_size,
        trainer.precision,
    )
    return trainer, throughput


def _fit(trainer: Trainer, classifier: PhonemeClassifier, data: PhonemeData, ckpt_path: str | None) -> None:
    """`Trainer.fit`. Ctrl-C comes out as KeyboardInterrupt, SIGTERM as SystemExit, both after a word how to go on."""
    try:
        trainer.fit(classifier, data, ckpt_path=ckpt_path, weights_only=True)
    except SystemExit as stop:
        newest = _newest_checkpoint(trainer) or ckpt_path
        log.warning(
            "interrupted in epoch %d: %s",
            trainer.current_epoch,
            f"continue with ckpt_path={newest}" if newest else "there is no checkpoint yet",
        )
        if isinstance(stop, SIGTERMException):
            raise SystemExit(TERMINATED) from stop
        raise KeyboardInterrupt from stop


def _conclude(
    trainer: Trainer,
    classifier: PhonemeClassifier,
    data: PhonemeData,
    stores: Stores,
    settings: dict[str, Any],
    folder: Path,
    throughput: Throughput,
    start: float,
) -> dict[str, Any]:
    """Evaluate the best model, predict, draw, and write the summary. One process does this."""
    device = trainer.strategy.root_device
    best = _best_checkpoint(trainer)
    model = load(best) if best else classifier.model
    validation = evaluate(model, classifier.loss, data, data.split.val, device)
    training = evaluate(model, classifier.loss, data, data.split.train[: len(data.split.val)], device)
    submission = None
    if stores.test is not None:
        answers = predict(model, stores.test, device, settings["data"]["eval_batch_size"])
        submission = write_submission(
            folder / "prediction.csv", answers, stores.test.n_frames, settings["data"]["sample_submission"]
        )
    figures = [
        save(
            plot_confusion(
                validation.confusion.numpy(),
                stores.train.phones.phones,
                f"validation accuracy {validation.metrics['accuracy']:.4f}",
            ),
            folder / "figures" / "confusion_matrix.png",
        ),
        save(plot_learning_curves(classifier.history), folder / "figures" / "learning_curves.png"),
    ]
    summary = {
        **{f"val_{name}": round(value, 6) for name, value in validation.metrics.items()},
        **{f"train_{name}": round(training.metrics[name], 6) for name in ("accuracy", "loss")},
        "val_frames": int(validation.confusion.sum()),
        "train_frames": int(training.confusion.sum()),
        "parameters": count_parameters(model),
        "epochs": trainer.current_epoch,
        "train_frames_per_second": round(throughput.frames_per_second, 1),
        **peak_memory(device),
        "wall_seconds": round(time.perf_counter() - start, 2),
        "seed": settings["seed"],
        "best_checkpoint": str(best.relative_to(folder)) if best else None,
        "precision": settings["trainer"]["precision"],
        "device": device.type,
        "processes": trainer.world_size,
        "versions": versions(),
    }
    write_json(folder / "summary.json", summary)
    tracking.log_results(trainer.loggers, summary, figures, submission)
    _tell(summary, folder, submission)
    return summary


def _best_checkpoint(trainer: Trainer) -> Path | None:
    """The file of the checkpoint callback that watches a metric, if there is one and it has saved."""
    for callback in trainer.checkpoint_callbacks:
        if callback.monitor is not None and callback.best_model_path:
            return Path(callback.best_model_path)
    return None


def _newest_checkpoint(trainer: Trainer) -> Path | None:
    """The file of the checkpoint callback that keeps the newest, if there is one and it has saved."""
    for callback in trainer.checkpoint_callbacks:
        if callback.monitor is None and callback.best_model_path:
            return Path(callback.best_model_path)
    return None


def _tell(summary: dict[str, Any], folder: Path, submission: Path | None) -> None:
    log.info(
        "validation accuracy %.4f (without silence %.4f), training accuracy %.4f, %d epochs, %.0f s",
        summary["val_accuracy"],
        summary["val_accuracy_without_silence"],
        summary["train_accuracy"],
        summary["epochs"],
        summary["wall_seconds"],
    )
    if submission is not None:
        log.info("submission: %s", submission)
    log.info("pictures:   %s\nsummary:    %s", folder / "figures", folder / "summary.json")
