"""The study in its storage, with real SQLite files: locked, foreign, changed, shared."""

import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import optuna
import pytest

from phoneme.errors import InputError
from phoneme.search import (
    Definition,
    explained,
    make_sampler,
    mark_surplus,
    open_study,
    read_space,
    repeat,
    rows_of,
    started,
    suggest,
)
from phoneme.search import study as module

pytestmark = pytest.mark.filterwarnings("ignore:Heartbeat of storage is supposed")  # a search calls optimize

SPACE = read_space({"optim.lr": {"log": [1e-4, 1e-2]}})
MEANT = Definition({"optim.lr": {"log": [1e-4, 1e-2]}}, "val/accuracy", "maximize")


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def opened(url: str, name: str = "search", meant: Definition = MEANT, **options: bool) -> optuna.Study:
    with explained(url):
        return open_study(url, name, meant, make_sampler("qmc", SPACE, 0), optuna.pruners.NopPruner(), **options)


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/search.db"


def test_the_same_study_opens_again(url):
    study = opened(url)
    study.tell(study.ask(), 0.5)
    assert len(started(opened(url))) == 1


@pytest.mark.filterwarnings(
    "ignore::optuna.exceptions.ExperimentalWarning"
)  # filters are the process's, not the thread's
def test_many_may_open_a_new_storage_at_once(tmp_path):
    for number in range(3):
        together = threading.Barrier(8)

        def open_one(
            _: int, url: str = f"sqlite:///{tmp_path}/{number}.db", together: threading.Barrier = together
        ) -> str:
            together.wait()
            return opened(url).user_attrs[module.DEFINITION]["metric"]

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(open_one, range(8))) == ["val/accuracy"] * 8


def test_a_locked_storage(url, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LOCK_S", 0.2)
    opened(url)
    with closing(sqlite3.connect(tmp_path / "search.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(InputError, match=r"got database is locked\n  where: storage=sqlite[\s\S]*has held it for"):
            opened(url)
        other.execute("ROLLBACK")
    opened(url)


def test_a_storage_that_is_locked_while_the_search_runs(url, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LOCK_S", 0.2)
    study = opened(url)
    with closing(sqlite3.connect(tmp_path / "search.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(InputError, match=r"got database is locked"), explained(url):
            study.ask()


def test_a_storage_of_another_study(url):
    opened(url, "widths")
    with pytest.raises(InputError, match=r"the study width in this storage, got 1 of other names[\s\S]*mean widths\?"):
        opened(url, "width")
    opened(url, "width", new_study=True)
    assert set(optuna.get_all_study_names(url)) == {"width", "widths"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"space": {"optim.lr": {"log": [1e-4, 1e-1]}}}, r"the space of the study in the storage, \{'optim.lr'"),
        ({"metric": "val/loss"}, r"the metric of the study in the storage, val/accuracy, got val/loss"),
        ({"direction": "minimize"}, r"the direction of the study in the storage, maximize, got minimize"),
    ],
)
def test_a_study_of_another_search(url, change, message):
    opened(url)
    with pytest.raises(InputError, match=message + r"[\s\S]*where: study=search"):
        opened(url, meant=replace(MEANT, **change))


def test_a_study_of_another_program(url):
    foreign = optuna.create_study(storage=url, study_name="search", direction="maximize")
    foreign.tell(foreign.ask(), 1.0)
    with pytest.raises(InputError, match=r"a study of phoneme-search, got one that another program has made"):
        opened(url)


def test_a_file_that_is_no_database(url, tmp_path):
    (tmp_path / "search.db").write_text("number,state\n" * 1000)
    with pytest.raises(InputError, match=r"got file is not a database[\s\S]*the file is something else"):
        opened(url)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"got unable to open database file[\s\S]*the folder has to exist"):
        opened(f"sqlite:///{tmp_path}/nowhere/search.db")


def test_an_address_that_is_none():
    with pytest.raises(InputError, match=r"where: storage=\?\n  hint: sqlite:///search.db, or DIALECT"):
        opened("search.db")


def test_a_driver_that_is_not_installed():
    with pytest.raises(InputError, match=r"the driver of this kind of database[\s\S]*me:\*\*\*@host") as caught:
        opened("mysql+pymysql://me:secret@host/searches")
    assert "secret" not in str(caught.value)


def test_a_storage_of_another_version(url, tmp_path):
    opened(url)
    with closing(sqlite3.connect(tmp_path / "search.db")) as database:
        database.execute("UPDATE alembic_version SET version_num = 'v1.3.0.a'")
        database.commit()
    with pytest.raises(InputError, match=r"a storage of this version of optuna, got[\s\S]*optuna 5"):
        opened(url)


def test_a_trial_that_came_too_many_never_counts(url):
    study = opened(url)
    trials = [study.ask() for _ in range(4)]  # as four processes would, for the last of three
    assert [mark_surplus(study, trial, 3) for trial in trials] == [False, False, False, True]
    assert [t.number for t in started(study)] == [0, 1, 2] and [row.number for row in rows_of(study)] == [0, 1, 2]


def test_an_interrupted_trial_is_repeated_and_counts_once(url):
    study = opened(url)
    first = study.ask()
    values = suggest(first, SPACE)
    repeat(study, first)
    study.tell(first, state=optuna.trial.TrialState.FAIL)
    assert not started(study) and [row.state for row in rows_of(study)] == ["interrupted", "waiting"]
    again = opened(url).ask()
    assert suggest(again, SPACE) == values
    assert [trial.number for trial in started(study)] == [1]


def test_the_trial_of_a_killed_process_is_repeated(url, monkeypatch):
    monkeypatch.setattr(module, "SILENCE_S", 1)
    study = opened(url)
    killed = study.ask()
    values = suggest(killed, SPACE)
    study._storage.record_heartbeat(killed._trial_id)  # the last sign of life
    time.sleep(2.1)
    resumed = opened(url)
    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        optuna.storages.fail_stale_trials(resumed)
    assert [row.state for row in rows_of(resumed)] == ["interrupted", "waiting"]
    assert suggest(resumed.ask(), SPACE) == values
