"""A search: trials until there are enough."""

import logging
import math
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning

from phoneme.callbacks import Pruned
from phoneme.errors import InputError
from phoneme.runs.findings import Search, conclude, leave, say
from phoneme.runs.rehearsal import rehearse
from phoneme.runs.trial import TrialFailed, run_trial, warm_up
from phoneme.search import (
    Definition,
    Row,
    described,
    explained,
    make_pruner,
    make_sampler,
    mark_surplus,
    open_study,
    overrides_of,
    read_space,
    repeat,
    rows_of,
    started,
    suggest,
)

log = logging.getLogger(__name__)

TERMINATED = 143  # the shell's exit code for SIGTERM: 128 + 15


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a search as Ctrl-C does."""


def run_search(settings: dict[str, Any], folder: Path) -> list[Row]:
    """Search as `settings` say; leaves search.csv, search.json and figures/search.png in `folder`, returns the trials.

    Ctrl-C and SIGTERM put the point of the running trial back into the queue of the study. Raises InputError for
    settings that cannot be, for a storage that cannot be used, and if every trial failed.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # its lines and ours would say the same
    _check(settings)
    space = read_space(settings["space"])
    sampler = make_sampler(settings["sampler"], space, settings["seed"])
    warm_up()
    pruner = make_pruner(settings["pruner"], rehearse(settings["train"], space))
    meant = Definition({name: described(d) for name, d in space.items()}, settings["metric"], settings["direction"])
    url = settings["storage"]
    with explained(url):
        study = open_study(url, settings["study"], meant, sampler, pruner, new_study=settings["new_study"])
        search = Search(study, space, settings, folder)
        _welcome(search)
        try:
            with _terminable():
                _run(search)
        except KeyboardInterrupt as stop:
            leave(search)
            log.warning("interrupted: go on with storage=%s study=%s and the same space", search.url, settings["study"])
            if isinstance(stop, Terminated):
                raise SystemExit(TERMINATED) from stop
            raise
        return conclude(search)


def _check(settings: dict[str, Any]) -> None:
    """Raise InputError for words and numbers that cannot be."""
    if settings["direction"] not in ("maximize", "minimize"):
        raise InputError(
            expected="maximize or minimize",
            got=settings["direction"],
            where="direction",
            hint="an accuracy is maximized, a loss minimized",
        )
    for name, hint in (("trials", "16 is a start"), ("timeout", "in seconds; null: no limit")):
        if settings[name] is not None and not settings[name] > 0:
            raise InputError(expected="a positive number", got=settings[name], where=name, hint=hint)


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM, as batch systems send it, raises Terminated inside."""

    def stop(*_: object) -> None:
        raise Terminated

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _welcome(search: Search) -> None:
    settings = search.settings
    log.info(
        "study %s: %d of %d trials are there; %s over %s",
        settings["study"],
        len(started(search.study)),
        settings["trials"],
        settings["sampler"],
        ", ".join(search.space),
    )
    others = {" ".join(row.train) for row in rows_of(search.study) if row.folder} - {" ".join(settings["train"])}
    if others:
        log.warning("earlier trials had other fixed settings (%s): are the values comparable?", "; ".join(others))


def _run(search: Search) -> None:
    def after(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        say(search, leave(search), trial.number)

    began = time.monotonic()
    while _wants_another(search, began):
        search.study.optimize(partial(_objective, search), n_trials=1, catch=(TrialFailed,), callbacks=[after])


def _wants_another(search: Search, began: float) -> bool:
    """Whether there is time and fewer trials than asked for have started; those of dead processes are queued again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        optuna.storages.fail_stale_trials(search.study)
    limit = search.settings["timeout"]
    in_time = limit is None or time.monotonic() - began < limit
    return in_time and len(started(search.study)) < search.settings["trials"]


def _objective(search: Search, trial: optuna.Trial) -> float:
    """Train at a point of the space. What the study is to remember of it goes into the storage as it happens."""
    settings = search.settings
    if mark_surplus(search.study, trial, settings["trials"]):
        raise TrialFailed("more trials than asked for")
    folder = search.folder / "trials" / f"{trial.number:04d}"
    trial.set_user_attr("folder", str(folder))
    trial.set_user_attr("train", settings["train"])
    values: list[float] = []

    def tell(epoch: int, metrics: dict[str, float]) -> bool:
        values.append(_value(settings["metric"], epoch, metrics))
        trial.report(values[-1], epoch)
        return not trial.should_prune()

    try:
        run_trial([*settings["train"], *overrides_of(suggest(trial, search.space))], folder, tell)
        if not values:
            raise TrialFailed("the training ended before its first validation")
    except Pruned as error:
        raise optuna.TrialPruned from error
    except (TrialFailed, InputError) as error:
        trial.set_user_attr("error", str(error))
        raise
    except KeyboardInterrupt:
        repeat(search.study, trial)
        raise
    return max(values) if settings["direction"] == "maximize" else min(values)


def _value(name: str, epoch: int, metrics: dict[str, float]) -> float:
    if name not in metrics:
        raise InputError(
            expected="a metric that is there after a validation",
            got=name,
            where="metric",
            hint=f"there are: {', '.join(sorted(metrics))}",
        )
    if not math.isfinite(metrics[name]):
        raise TrialFailed(f"{name} is {metrics[name]} after epoch {epoch}")
    return metrics[name]
