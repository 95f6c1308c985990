"""The study of a search in its storage: opened, checked, shared by processes, and picked up again after a crash."""

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, OptunaError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from phoneme.build import did_you_mean
from phoneme.errors import InputError

LOCK_S = 60  # how long a write waits for another process's; each takes milliseconds
HEARTBEAT_S = 20  # between two signs of life of a running trial
SILENCE_S = 120  # without one, its process counts as dead
OPENINGS = 20  # attempts to open, while other processes make the tables of the same new storage
DEFINITION, REPEATS, SURPLUS = "phoneme.search", "repeats", "surplus"  # names of attributes in the storage


@dataclass(frozen=True)
class Definition:
    """What the values of a study's trials mean; it cannot change between two starts of a search."""

    space: dict[str, dict[str, Any]]
    metric: str
    direction: str


def open_study(
    url: str,
    name: str,
    definition: Definition,
    sampler: optuna.samplers.BaseSampler,
    pruner: optuna.pruners.BasePruner,
    new_study: bool = False,
) -> optuna.Study:
    """The study `name`, made if the storage is empty (or, with `new_study`, if it has others only).

    Raises InputError if the storage has studies of other names only, and if the study has another space, metric or
    direction.
    """
    storage = _open_storage(url)
    names = optuna.get_all_study_names(storage)
    if names and name not in names and not new_study:
        raise InputError(
            expected=f"the study {name} in this storage",
            got=f"{len(names)} of other names",
            where="study",
            hint=f"{did_you_mean(name, names)}; new_study=true adds one, another storage=sqlite:///FILE starts afresh",
        )
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        direction=definition.direction,
        sampler=sampler,
        pruner=pruner,
        load_if_exists=True,
    )
    if DEFINITION not in study.user_attrs and not study.get_trials(deepcopy=False):
        study.set_user_attr(DEFINITION, asdict(definition))
    _check_definition(study, asdict(definition))
    return study


def _open_storage(url: str) -> RDBStorage:
    connect = {"connect_args": {"timeout": LOCK_S}} if make_url(url).get_backend_name() == "sqlite" else {}
    for attempt in range(OPENINGS):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)  # about the heartbeat
                return RDBStorage(
                    url,
                    engine_kwargs=connect,
                    heartbeat_interval=HEARTBEAT_S,
                    grace_period=SILENCE_S,
                    heartbeat_stale_trial_callback=repeat,
                )
        except (DBAPIError, OptunaError) as error:
            race = any(word in str(error.__cause__ or error).lower() for word in ("already exists", "unique", "duplic"))
            if not race or attempt + 1 == OPENINGS:
                raise
            time.sleep(0.05)
    raise AssertionError("the last attempt returns or raises")


def _check_definition(study: optuna.Study, wanted: dict[str, Any]) -> None:
    found = study.user_attrs.get(DEFINITION)
    if found is None:
        raise InputError(
            expected="a study of phoneme-search",
            got="one that another program has made",
            where=f"study={study.study_name}",
            hint="take another name with new_study=true, or another storage",
        )
    for part, value in wanted.items():
        if found[part] != value:
            raise InputError(
                expected=f"the {part} of the study in the storage, {found[part]}",
                got=value,
                where=f"study={study.study_name}",
                hint="values of different searches cannot be compared: another study=NAME new_study=true, or storage",
            )


def started(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that count, by number: those that ran or run, without those that a later one repeats."""
    trials = study.get_trials(deepcopy=False)
    repeated = {trial.user_attrs.get(REPEATS) for trial in trials}
    return [
        trial
        for trial in trials
        if trial.state is not TrialState.WAITING and trial.number not in repeated and SURPLUS not in trial.user_attrs
    ]


def mark_surplus(study: optuna.Study, trial: Trial, trials: int) -> bool:
    """Whether `trial` is one too many, because several processes asked for the last one at once; it then never counts.

    The storage gives out each number once, so all processes come to the same answer.
    """
    surplus = trial.number not in [other.number for other in started(study)[:trials]]
    if surplus:
        trial.set_user_attr(SURPLUS, True)
    return surplus


def took_no_point(trial: FrozenTrial) -> bool:
    """Whether the trial has the point of an earlier one, or never counts."""
    return REPEATS in trial.user_attrs or SURPLUS in trial.user_attrs


def repeat(study: optuna.Study, trial: Trial | FrozenTrial) -> None:
    """Put the point of a trial that was interrupted first into the queue."""
    study.enqueue_trial(trial.params, user_attrs={REPEATS: trial.number})


@contextmanager
def explained(url: str) -> Iterator[None]:
    """What goes wrong with the storage inside becomes one InputError; a password is not shown."""
    try:
        yield
    except (SQLAlchemyError, OptunaError) as error:
        cause = error.__cause__ if isinstance(error.__cause__, SQLAlchemyError) else error
        reason = str(getattr(cause, "orig", None) or cause).splitlines()[0]
        raise InputError(
            expected="a storage that can be read and written",
            got=reason,
            where=f"storage={shown_url(url)}",
            hint=_hint(reason),
        ) from error
    except ImportError as error:
        if "DB access module" not in str(error):
            raise
        raise InputError(
            expected="the driver of this kind of database",
            got="none",
            where=f"storage={shown_url(url)}",
            hint=f"install it, e.g. pip install psycopg2-binary or pymysql ({error.__cause__ or error})",
        ) from error
    except RuntimeError as error:
        if "optuna" not in str(error):
            raise
        raise InputError(
            expected="a storage of this version of optuna",
            got=str(error).splitlines()[0],
            where=f"storage={shown_url(url)}",
            hint=f"optuna {optuna.__version__} is installed; a new storage=sqlite:///FILE always works",
        ) from error


def shown_url(url: str) -> str:
    """The address of a storage with *** for a password.

    >>> shown_url("postgresql://me:secret@host/searches")
    'postgresql://me:***@host/searches'
    """
    try:
        return make_url(url).render_as_string(hide_password=True)
    except SQLAlchemyError:
        return "?"


def _hint(reason: str) -> str:
    if "locked" in reason:
        return f"another program has held it for {LOCK_S} s: close it, or take storage=sqlite:///ANOTHER_FILE"
    if "not a database" in reason:
        return "the file is something else: give the path of a search.db, or of a file that does not exist yet"
    if "unable to open" in reason:
        return "the folder has to exist, and sqlite needs three slashes and the path: sqlite:///FOLDER/search.db"
    if "parse" in reason:
        return "sqlite:///search.db, or DIALECT://USER:PASSWORD@HOST/DATABASE"
    return "check that the database is reachable, writable and not full"
