"""One training: data, model, trainer, then what the run leaves behind."""

import logging
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, Trainer, seed_everything
from pytorch_lightning.accelerators import AcceleratorRegistry
from pytorch_lightning.callbacks import ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch import nn

from phoneme import tracking
from phoneme.augment import Augment
from phoneme.build import build, did_you_mean
from phoneme.callbacks import EpochLines, LearningRateWarmup, Throughput
from phoneme.checkpoint import AtomicCheckpointIO, check_resumable, make_recipe, read_checkpoint
from phoneme.classifier import PhonemeClassifier
from phoneme.columns import Features
from phoneme.datamodule import PhonemeData
from phoneme.errors import InputError
from phoneme.losses import IGNORE, make_loss
from phoneme.optim import check_warmup_shape
from phoneme.runs.data import Stores, open_stores, prepare, warn_of_known
from phoneme.runs.precision import check_precision, pick_precision
from phoneme.runs.seed import check_seed
from phoneme.runs.trained import conclude, leave_training
from phoneme.splits import Split, split_ids

log = logging.getLogger(__name__)

PROGRESS_EVERY = 20  # updates between two redraws of the bar
TERMINATED = 143  # the shell's exit code for SIGTERM: 128 + 15


def train(
    settings: dict[str, Any],
    portable: dict[str, Any],
    folder: Path,
    multirun: bool = False,
    watchers: tuple[Callback, ...] = (),
) -> dict[str, Any]:
    """Train as `settings` say and leave the run's files in `folder`; returns the summary.

    `portable` is the same configuration with its interpolations kept; it goes into the checkpoints. `watchers` are
    callbacks beside those of the configuration.
    """
    start = time.perf_counter()
    tracking.quieten_lightning()
    _check(settings)
    stores = open_stores(settings["data"], Features(**settings["features"]))
    checkpoint = read_checkpoint(settings["ckpt_path"]) if settings["ckpt_path"] else None
    if stores.test is not None:
        warn_of_known(stores.test, stores.train.ids)
    split = _split(stores, settings["data"]["split"], checkpoint)
    classifier = _classifier(settings, portable, stores, split, checkpoint)
    model, context = classifier.model, getattr(classifier.model, "context", 1)
    data = prepare(settings["data"], stores, split, unit=model.unit, context=context, seed=settings["seed"])
    trainer, throughput = _trainer(settings, folder, multirun, watchers)
    try:
        tracking.log_config(trainer.loggers, portable)
        _fit(trainer, classifier, data, settings["ckpt_path"])
        summary = {}
        if trainer.is_global_zero:
            outcome, best = conclude(
                trainer, classifier, data, stores.test, folder, settings["data"]["train_score_share"]
            )
            facts = {
                "best_checkpoint": best,
                "train_frames_per_second": round(throughput.frames_per_second, 1),
                "wall_seconds": round(time.perf_counter() - start, 2),
            }
            summary = leave_training(outcome, trainer, classifier, settings, facts, folder)
    except BaseException:
        tracking.finish(trainer.loggers, failed=True)
        raise
    tracking.finish(trainer.loggers, failed=False)
    return summary


def _classifier(
    settings: dict[str, Any],
    portable: dict[str, Any],
    stores: Stores,
    split: Split,
    checkpoint: dict[str, Any] | None,
) -> PhonemeClassifier:
    """A fresh network with its loss; Lightning loads the checkpoint's weights into it, which have to fit."""
    seed_everything(settings["seed"], verbose=False)
    coeffs, phones = stores.train.coeffs, stores.train.phones
    model = build(settings["model"], "model", coeffs=coeffs, classes=len(phones))
    recipe = make_recipe(
        model=settings["model"],
        coeffs=coeffs,
        features=stores.features.to_dict(),
        phones=phones.to_dict(),
        split={side: list(ids) for side, ids in asdict(split).items()},
        config=portable,
    )
    if checkpoint is not None:
        check_resumable(checkpoint, recipe, settings["ckpt_path"])
        if len(checkpoint["history"]) >= settings["trainer"]["max_epochs"]:
            log.warning("the checkpoint has done trainer.max_epochs=%s: nothing to train", len(checkpoint["history"]))
    if settings["compile"]:
        model.compile()
    return PhonemeClassifier(
        model,
        make_loss(**settings["loss"]),
        phones,
        optim=settings["optim"],
        schedule={name: value for name, value in settings["schedule"].items() if name != "warmup_shape"},
        seed=settings["seed"],
        recipe=recipe,
        augment=make_augment(settings["augment"], model, stores.features, coeffs),
    )


def make_augment(section: dict[str, Any], model: nn.Module, features: Features, coeffs: int) -> Augment | None:
    """What changes the training batches; None if every ingredient is switched off."""
    window = getattr(model, "context", 1) if model.unit == "frame" else None
    columns_of = features.columns_of(coeffs)
    augment = Augment(**section, columns_of=columns_of, window=window, ignore=IGNORE)
    if (augment.noise or augment.masks) and features.normalise == "none" and features.source == "audio":
        log.warning("features.normalise=none: augment hides by 0 and adds noise of a deviation, as if they had mean 0")
    return augment if augment.acts else None


def _check(settings: dict[str, Any]) -> None:
    """Raise InputError for values that would fail late or silently elsewhere."""
    _check_trainer(settings["trainer"])
    share = settings["data"]["train_score_share"]
    if not 0 < share <= 1:
        raise InputError(
            expected="a share in (0, 1]",
            got=share,
            where="data.train_score_share",
            hint="1 scores all training utterances; 0.1 is enough for a slow model on a large corpus",
        )
    check_seed(settings["seed"])


def _check_trainer(section: dict[str, Any]) -> None:
    check_precision(section["precision"])
    accelerators = sorted({"auto", "gpu", *AcceleratorRegistry.available_accelerators()})
    if section["accelerator"] not in accelerators:
        raise InputError(
            expected=" or ".join(accelerators),
            got=section["accelerator"],
            where="trainer.accelerator",
            hint=did_you_mean(str(section["accelerator"]), accelerators),
        )
    for name, hint in (
        ("max_epochs", "-1: without an end; trainer.fast_dev_run=true: one batch, to see that it runs"),
        ("check_val_every_n_epoch", "1: after every epoch"),
        ("log_every_n_steps", "50 updates between two rows of metrics.csv"),
    ):
        value = section[name]
        if value < 1 and not (name == "max_epochs" and value == -1):
            raise InputError(expected="at least 1", got=value, where=f"trainer.{name}", hint=hint)


def _split(stores: Stores, options: dict[str, Any], checkpoint: dict[str, Any] | None) -> Split:
    """The checkpoint's own split when a training continues, else a new one."""
    store = stores.train
    if checkpoint is None:
        return split_ids(store.ids, store.speakers, copies=store.copies, **options)
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


def _callbacks(settings: dict[str, Any]) -> list[Callback]:
    """The warm-up, which is part of the optimization, and those of the configuration."""
    steps, shape = settings["schedule"]["warmup_steps"], settings["schedule"]["warmup_shape"]
    check_warmup_shape(shape)
    warmup = [LearningRateWarmup(steps, shape)] if steps > 0 else []  # make_schedule refuses a negative number
    configured = [build(section, f"callbacks.{name}") for name, section in settings["callbacks"].items() if section]
    if sum(isinstance(callback, LearningRateWarmup) for callback in warmup + configured) > 1:
        raise InputError(
            expected="one warm-up",
            got="two warm-ups, whose factors would multiply",
            where="schedule.warmup_steps and callbacks",
            hint="set schedule.warmup_steps=0 beside a LearningRateWarmup of your own, and have one of those",
        )
    return warmup + configured


def _trainer(
    settings: dict[str, Any], folder: Path, multirun: bool, watchers: tuple[Callback, ...]
) -> tuple[Trainer, Throughput]:
    callbacks = [*_callbacks(settings), *watchers]
    tracking.keep_previous_metrics(folder)
    loggers = [build(section, f"logger.{name}") for name, section in settings["logger"].items() if section]
    section = dict(settings["trainer"])
    section["precision"] = pick_precision(section["precision"], section["accelerator"])
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


def _newest_checkpoint(trainer: Trainer) -> Path | None:
    """The file of the checkpoint callback that keeps the newest, if there is one and it has saved."""
    for callback in trainer.checkpoint_callbacks:
        path = Path(callback.dirpath, f"{callback.filename}.ckpt")
        if callback.monitor is None and path.is_file():
            return path
    return None
