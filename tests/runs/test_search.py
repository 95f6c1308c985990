"""Searches on the bundled speech, tiny: what they leave, what fails in them, how they go on."""

import csv
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf
from pytorch_lightning import Callback

from phoneme.cli.explain import explain
from phoneme.config import CONF, register_schemas
from phoneme.errors import InputError
from phoneme.runs.rehearsal import rehearse
from phoneme.runs.search import run_search
from phoneme.search import Row, read_space, sampling
from tests.helpers import TINY, environment, train_in

ROOT = Path(__file__).parents[2]
SHORT = [*TINY, "trainer.max_epochs=2", "trainer.limit_train_batches=10"]
GOOD_FIRST = 0  # a seed
RATES = {"optim.lr": {"log": [1e-3, 1e-1]}, "model.dropout": {"uniform": [0, 0.6]}}


class Killed(Callback):
    """Ends its process as the system does when memory is short."""

    def on_train_start(self, *_):
        os.kill(os.getpid(), signal.SIGKILL)


def settings(folder: Path, space: dict, train: list[str], **changes: Any) -> dict[str, Any]:
    """What `phoneme-search` hands to `run_search`."""
    register_schemas()
    storage = f"sqlite:///{folder}/search.db"
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = OmegaConf.to_container(compose("search", ["space=none", f"storage={storage}"]))
    return config | {"space": space, "train": train} | changes


def search(folder: Path, space: dict, *more: str, **changes: Any) -> list[Row]:
    return run_search(settings(folder, space, [*SHORT, *more], **changes), folder)


def lines(folder: Path) -> list[dict[str, str]]:
    with (folder / "search.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Path:
    """Four trials, of which those with the larger rate diverge."""
    folder = tmp_path_factory.mktemp("search")
    space = {"optim.lr": {"choice": [0.1, 1e30]}, "model.dropout": {"uniform": [0, 0.6]}}
    search(folder, space, "optim=sgd", "model.norm=none", trials=4)
    return folder


def test_a_line_a_trial(done):
    rows = lines(done)
    assert list(rows[0]) == ["number", "state", "value", "optim.lr", "model.dropout", "seconds", "folder", "error"]
    assert [row["number"] for row in rows] == ["0", "1", "2", "3"]
    for row in rows:
        assert (row["state"] == "failed") == (row["optim.lr"] == "1e+30") == (row["value"] == "")
        assert Path(row["folder"]) == done / "trials" / f"000{row['number']}" and float(row["seconds"]) > 0
        log = Path(row["folder"], "train.log").read_text()
        assert "utterances to train on" in log and ("Traceback" in log) == (row["state"] == "failed")
    assert {row["state"] for row in rows} == {"complete", "failed"}
    failed = next(row for row in rows if row["state"] == "failed")
    assert failed["error"].startswith("expected a finite loss, got ")
    assert (done / "figures" / "search.png").stat().st_size > 10_000


def test_the_best_can_be_repeated(done, tmp_path):
    found = json.loads((done / "search.json").read_text())
    program, *overrides = shlex.split(found["best"]["command"])
    assert program == "phoneme-train" and found["best"]["value"] == max(row["value"] or 0 for row in found["all"])
    assert train_in(tmp_path, *overrides)["val_accuracy"] == pytest.approx(found["best"]["value"], abs=1e-6)
    assert found["states"] == {"complete": 2, "failed": 2} and "optim.lr" in found["at_the_edge"]


def test_a_search_that_is_done_has_nothing_to_train(done, caplog):
    before = {path: path.stat().st_mtime_ns for path in done.rglob("*.ckpt")}
    found = json.loads((done / "search.json").read_text())
    with caplog.at_level("INFO"):
        search(done, found["space"], "optim=sgd", "model.norm=none", "seed=1", trials=4)
    assert {path: path.stat().st_mtime_ns for path in done.rglob("*.ckpt")} == before
    said = caplog.text
    assert (
        "4 of 4 trials are there" in said and "other fixed settings" in said and "phoneme-train model.width=32" in said
    )
    assert "optim.lr=0.1 of the best trial is at the edge of the space (choice [0.1, 1e+30])" in said


def test_a_resumed_search_is_the_uninterrupted_one(tmp_path):
    for name, counts in (("whole", (3,)), ("resumed", (1, 3))):
        (tmp_path / name).mkdir()
        for trials in counts:
            search(tmp_path / name, RATES, trials=trials)
    whole, resumed = (
        [(row["value"], row["optim.lr"]) for row in lines(tmp_path / name)] for name in ("whole", "resumed")
    )
    assert whole == resumed and len(whole) == 3


def test_if_every_trial_fails_the_first_message_is_the_answer(tmp_path):
    with pytest.raises(InputError, match=r"one trial that trains, got 2 that failed[\s\S]*expected a finite loss"):
        search(tmp_path, {"optim.lr": {"log": [1e29, 1e30]}}, "optim=sgd", "model.norm=none", trials=2)
    assert [row["state"] for row in lines(tmp_path)] == ["failed", "failed"]


def test_a_trial_that_is_killed_is_a_failed_trial(tmp_path):
    die = "+callbacks.die={_target_: tests.runs.test_search.Killed}"
    with pytest.raises(InputError, match=r"was ended by SIGKILL: usually the machine ran out of memory"):
        search(tmp_path, RATES, die, trials=1)


def test_a_trial_without_a_validation_is_a_failed_trial(tmp_path):
    with pytest.raises(InputError, match=r"the training ended before its first validation"):
        search(tmp_path, RATES, "trainer.check_val_every_n_epoch=5", "callbacks=none", trials=1)


def test_several_processes_a_trial_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"one process a job in a multirun, got 2 processes"):
        search(tmp_path, RATES, "trainer.devices=2", trials=1)


@pytest.mark.parametrize(("metric", "direction"), [("val/loss", "minimize"), ("val/calibration_error", "minimize")])
def test_another_metric(metric, direction, tmp_path):
    (row,) = search(tmp_path, RATES, metric=metric, direction=direction, trials=1)
    with (tmp_path / "trials" / "0000" / "metrics.csv").open() as file:
        logged = [float(line[metric]) for line in csv.DictReader(file) if line[metric]]
    assert len(logged) == 2 and row.value == pytest.approx(min(logged), rel=1e-6)


def test_a_metric_that_is_not_there_ends_the_search(tmp_path):
    with pytest.raises(
        InputError, match=r"got val/acuracy\n  where: metric\n  hint: there are: train/\S+, [\s\S]*val/acc"
    ):
        search(tmp_path, RATES, metric="val/acuracy", trials=3)


def test_a_hopeless_trial_is_pruned(tmp_path, monkeypatch, caplog):
    """Of the first two points of a Sobol sequence one is in each half: with this seed the good rate comes first."""
    monkeypatch.setattr(sampling, "TRIALS_BEFORE_PRUNING", 1)
    with caplog.at_level("INFO"):
        good, bad = search(tmp_path, {"optim.lr": {"choice": [1e-2, 1e-9]}}, trials=2, seed=GOOD_FIRST)
    assert good.parameters == {"optim.lr": 1e-2} and good.state == "complete"
    assert bad.state == "pruned" and bad.value < good.value and "trial 1 pruned: " in caplog.text
    assert not Path(bad.folder, "summary.json").exists()
    with Path(bad.folder, "metrics.csv").open() as file:
        assert {line["epoch"] for line in csv.DictReader(file)} == {"0"}


def test_another_sampler_and_pruner(tmp_path):
    rows = search(tmp_path, RATES, sampler="tpe", pruner="hyperband", trials=2)
    assert [row.number for row in rows] == [0, 1] and rows[0].state == "complete"


def test_no_time_no_trial(tmp_path):
    assert search(tmp_path, RATES, timeout=1e-9, trials=3) == []
    assert lines(tmp_path) == []


@pytest.mark.parametrize(
    ("space", "train", "message"),
    [
        ({"optim.lrr": {"log": [1e-4, 1e-2]}}, [], "where: space.optim.lrr"),
        ({"model.width": {"choice": [64, "wide"]}}, [], "where: model.width"),
        ({"model.dropout": {"uniform": [0.0, 1.5]}}, [], "where: model.dropout"),
        ({"model.norm": {"choice": ["batch", "bach"]}}, [], "did you mean batch?"),
        ({"optim.lr": {"uniform": [-1.0, 1.0]}}, [], "where: optim.lr"),
        ({"schedule.name": {"choice": ["cosine", "cosin"]}}, [], "did you mean cosine?"),
        ({"loss.label_smoothing": {"uniform": [0.0, 2.0]}}, [], "label_smoothing"),
        ({"model": {"choice": ["mlp", "mpl"]}}, [], "did you mean mlp?"),
        ({"augment.noise": {"choice": [0.1, -0.1]}}, [], "where: augment.noise"),
        ({"features": {"choice": ["course", "logmel40"]}}, [], "expected recordings"),
        (RATES, ["features=logmel40"], "where: features.name"),
        (RATES, ["optim.lr=1e-3"], "hint: the space varies it"),
        (RATES, ["hydra.run.dir=x"], "where: train"),
        (RATES, ["model.width"], "expected NAME=VALUE, got model.width"),
        (RATES, ["data=libriphone", "data.root=nowhere"], "hint: set data.root"),
    ],
)
def test_what_no_trial_could_train_is_refused_before_the_first(space, train, message, tmp_path):
    with pytest.raises((InputError, HydraException)) as caught:
        run_search(settings(tmp_path, space, train), tmp_path)
    assert message in explain(caught.value)
    assert not (tmp_path / "search.db").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"direction": "up"}, r"maximize or minimize, got up\n  where: direction"),
        ({"trials": 0}, r"a positive number, got 0\n  where: trials"),
        ({"timeout": -1.0}, r"a positive number, got -1.0\n  where: timeout"),
        ({"sampler": "grid"}, r"where: sampler"),
        ({"pruner": "mean"}, r"where: pruner"),
    ],
)
def test_settings_that_cannot_be(changes, message, tmp_path):
    with pytest.raises(InputError, match=message):
        search(tmp_path, RATES, **changes)


@pytest.mark.parametrize(
    ("name", "train"),
    [("mlp", []), ("sequence", ["model=gru"]), ("sequence", ["model=tcn"]), ("sequence", ["model=conformer"])],
)
def test_the_shipped_spaces_can_be_trained_in(name, train):
    section = OmegaConf.to_container(OmegaConf.load(CONF / "space" / f"{name}.yaml"))
    assert rehearse(train, read_space(section)) == 30


def start(folder: Path, storage: Path, *overrides: str) -> subprocess.Popen:
    quoted = ",".join(f'"{setting}"' for setting in SHORT)
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "phoneme.cli.search"),
            *("space=none", "+space.optim.lr.log=[1e-3,1e-1]", f"storage=sqlite:///{storage}"),
            *(f"hydra.run.dir={folder}", f"train=[{quoted}]", *overrides),
        ],
        cwd=storage.parent,
        env=environment() | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_processes_share_the_trials_of_one_storage(tmp_path):
    storage = tmp_path / "search.db"
    both = [start(tmp_path / name, storage, "trials=4") for name in ("one", "two")]
    said = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    folders = [json.loads((tmp_path / name / "search.json").read_text())["all"] for name in ("one", "two")]
    rows = max(folders, key=lambda found: sum(row["state"] == "complete" for row in found))
    assert [row["state"] for row in rows] == ["complete"] * 4
    assert len({row["parameters"]["optim.lr"] for row in rows}) == 4
    assert {Path(row["folder"]).parts[-3] for row in rows} == {"one", "two"}
    assert not any("Warning" in text or "Traceback" in text for text in said), said


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_search_goes_on(number, code, tmp_path):
    storage = tmp_path / "search.db"
    process = start(
        tmp_path / "first", storage, "trials=1", 'train=["trainer.max_epochs=1000","trainer.accelerator=cpu"]'
    )
    log, deadline = tmp_path / "first" / "trials" / "0000" / "train.log", time.monotonic() + 120
    while not (log.exists() and "epoch 1 of" in log.read_text()):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1]
        time.sleep(0.05)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert f"interrupted: go on with storage=sqlite:///{storage} study=search" in said and "Traceback" not in said
    (first, waiting) = lines(tmp_path / "first")
    assert (first["state"], waiting["state"]) == ("interrupted", "waiting")
    resumed = tmp_path / "second"
    resumed.mkdir()
    changes = {"trials": 1, "storage": f"sqlite:///{storage}"}
    rows = run_search(settings(tmp_path, {"optim.lr": {"log": [1e-3, 1e-1]}}, SHORT, **changes), resumed)
    assert [row.state for row in rows] == ["interrupted", "complete"]
    assert rows[0].parameters == rows[1].parameters
