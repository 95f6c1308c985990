"""phoneme-baseline: what it leaves, that all commands read it, and what it refuses."""

import json
import logging

import pytest
import torch

import phoneme
from phoneme.checkpoint import read_checkpoint
from phoneme.errors import InputError
from phoneme.runs.diagnose import run_diagnose
from phoneme.runs.predict import run_predict
from tests.folders import libriphone_folder
from tests.helpers import baseline_in, command, composed, train_in

TEST_FRAMES, VAL_FRAMES = 10_638, 8_951


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return baseline_in(folder), folder


def predict_in(folder, checkpoints, *overrides):
    paths = ",".join(f"{checkpoint}/checkpoints/best.ckpt" for checkpoint in checkpoints)
    settings = composed("predict", folder, f"ckpt_path=[{paths}]", "device=cpu", *overrides)["settings"]
    return run_predict(settings, folder).read_bytes()


def test_leaves_what_a_training_leaves(run):
    summary, folder = run
    assert {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} == {
        "checkpoints/best.ckpt",
        "figures/confusion_matrix.png",
        "prediction.csv",
        "summary.json",
    }
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert len((folder / "prediction.csv").read_text().splitlines()) == TEST_FRAMES + 1


def test_summary(run):
    summary, _ = run
    assert 0.4 < summary["val_accuracy"] < summary["train_accuracy"] and summary["val_frames"] == VAL_FRAMES
    assert summary["train_frames"] == 1500 and summary["parameters"] == 3 * 39 * 41 + 41
    assert summary["baseline"] == "linear_svm" and summary["converged"] is True
    assert summary["absent_classes"] and summary["best_checkpoint"] == "checkpoints/best.ckpt"
    assert all(summary[key] > 0 for key in ("cpu_seconds", "wall_seconds", "iterations", "peak_memory_gib"))
    assert "scikit-learn" in summary["versions"]


def test_its_keys_are_those_of_a_training(run, tmp_path):
    trained = train_in(tmp_path, "trainer.max_epochs=1", "trainer.limit_train_batches=5")
    assert trained.keys() - run[0].keys() == {"epochs", "precision", "processes", "train_frames_per_second"}
    split = [read_checkpoint(f / "checkpoints" / "best.ckpt")["phoneme"]["split"] for f in (run[1], tmp_path)]
    assert split[0] == split[1]


def test_the_same_command_gives_the_same_bits(run, tmp_path):
    baseline_in(tmp_path)
    weights = [phoneme.load(folder / "checkpoints" / "best.ckpt").output.weight for folder in (run[1], tmp_path)]
    assert torch.equal(*weights)
    baseline_in(tmp_path, "seed=1")
    assert not torch.equal(weights[0], phoneme.load(tmp_path / "checkpoints" / "best.ckpt").output.weight)


def test_predicts_and_decodes(run, tmp_path):
    assert predict_in(tmp_path, [run[1]]) == (run[1] / "prediction.csv").read_bytes()
    predict_in(tmp_path, [run[1]], "decode=hmm", "decode.transition_weight=[1.0]", "decode.minimum_frames=[2]")
    found = json.loads((tmp_path / "decoding.json").read_text())
    assert found["argmax_accuracy"] == pytest.approx(run[0]["val_accuracy"], abs=1e-5)


def test_is_a_member_of_an_ensemble(run, tmp_path):
    train_in(tmp_path / "mlp", "trainer.max_epochs=1")
    predict_in(tmp_path, [run[1], tmp_path / "mlp"], "ensemble.weights=fitted")
    members = json.loads((tmp_path / "ensemble.json").read_text())["validation"]["member_accuracies"]
    assert members[0] == pytest.approx(run[0]["val_accuracy"], abs=1e-5)


def test_is_diagnosed(tmp_path, caplog):
    baseline_in(tmp_path, "baseline=logistic", "context=1")
    path = tmp_path / "checkpoints" / "best.ckpt"
    cheap = ("probe.frames=64", "probe.second=64", "spectrum=extremes", "tolerance=1e-2", "device=cpu")
    run_diagnose(composed("diagnose", tmp_path, f"ckpt_path={path}", *cheap)["settings"], tmp_path / "out")
    answer = json.loads((tmp_path / "out" / "critical_point.json").read_text())
    assert answer["step"] == read_checkpoint(path)["global_step"] > 0 and answer["sharpness"] is None
    assert "no sharpness: the checkpoint has no optimizer's state" in caplog.text


def test_from_the_command_line(tmp_path):
    done = command(
        "baseline",
        *("baseline=mlp", "baseline.max_iter=3", "frames=1000", "context=1", "data.eval_batch_size=4000"),
        f"hydra.run.dir={tmp_path}",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "MLPClassifier: fitting to 1000 frames of 39 numbers each" in done.stderr
    assert "Iteration 3, loss = " in done.stderr and "not converged: Stochastic Optimizer" in done.stderr
    assert "Warning" not in done.stderr and not done.stdout
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["converged"] is False and summary["iterations"] == 3
    history = read_checkpoint(tmp_path / "checkpoints" / "best.ckpt")["history"]
    assert [row["epoch"] for row in history] == [0, 1, 2]


def test_more_frames_than_there_are(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    root = libriphone_folder(tmp_path / "data", n_train=2)
    summary = baseline_in(tmp_path / "run", "data=libriphone", f"data.root={root}", "context=1")
    there = summary["train_frames"]
    assert f"frames=1500: there are {there} training frames, all are taken" in caplog.text
    assert there < 1500 and "never the answer (logit -100)" in caplog.text


def test_a_training_does_not_continue_from_it(run, tmp_path):
    path = run[1] / "checkpoints" / "best.ckpt"
    with pytest.raises(InputError, match=r"with the state of its optimizer, got one without: of phoneme-baseline"):
        train_in(tmp_path, "model=linear", "model.context=3", f"ckpt_path={path}", tiny=False)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["frames=40"], r"at least 41 frames, one a class, got 40\n  where: frames"),
        (["context=4"], r"an odd number of frames, got 4\n  where: context"),
        (["context=-1"], r"an odd number of frames, got -1\n  where: context"),
        (["baseline.name=forest"], r"a known baseline, got forest\n  where: baseline.name"),
        (["baseline.C=-1"], r"a number above 0, got -1.0\n  where: baseline.C"),
        (["device=abacus"], r"a device that is here, got abacus"),
        (["seed=-1"], r"a seed from 0 to 2\^32 - 1, got -1"),
    ],
)
def test_values_that_cannot_be(overrides, message, tmp_path, monkeypatch):
    monkeypatch.setattr("phoneme.runs.baseline.fit", None)  # each is said before anything is fitted
    with pytest.raises(InputError, match=message):
        baseline_in(tmp_path, *overrides)
    assert not (tmp_path / "summary.json").exists()


def test_an_unknown_baseline_of_the_command_line(tmp_path):
    done = command("baseline", "baseline=forest", cwd=tmp_path)
    assert done.returncode == 1 and "expected a choice of baseline, got forest" in done.stderr
    assert "linear_svm" in done.stderr and "Traceback" not in done.stderr
