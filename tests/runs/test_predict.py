"""phoneme-predict: the submission of the training again, or of other data, by a decoder or by several networks."""

import itertools
import json
import logging

import pytest
import torch

from phoneme.checkpoint import read_checkpoint
from phoneme.config import shipped
from phoneme.errors import InputError
from phoneme.runs.predict import run_predict
from tests.folders import TEST, libriphone_folder, timit11_folder
from tests.helpers import command, settings_of, train_in


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    train_in(folder, "trainer.max_epochs=1")
    return folder


@pytest.fixture(scope="module")
def second(tmp_path_factory):
    """Another seed, context and depth, on the same split."""
    folder = tmp_path_factory.mktemp("second")
    train_in(folder, "trainer.max_epochs=1", "seed=1", "model.context=3", "model.depth=1")
    return folder


@pytest.fixture(scope="module")
def third(tmp_path_factory):
    """Trained on another split: some of its training utterances are validation utterances of the others."""
    folder = tmp_path_factory.mktemp("third")
    train_in(folder, "trainer.max_epochs=1", "data.split.seed=5")
    return folder


HMM = {
    "name": "hmm",
    "prior_weight": [0.0],
    "transition_weight": [0.5, 1.0],
    "minimum_frames": [1, 3],
    "smoothing": 1.0,
}


def settings(run, **changes):
    return {
        "ckpt_path": str(run / "checkpoints" / "best.ckpt"),
        "data": None,
        "ensemble": {"average": "log", "weights": "equal"},
        "decode": {"name": "argmax"},
        "device": "cpu",
        "batch_size": 999,
    } | changes


def several(*runs, **changes):
    return settings(runs[0], ckpt_path=[str(run / "checkpoints" / "best.ckpt") for run in runs], **changes)


def altered(run, folder, change):
    """A copy of a run's checkpoint, in a folder of its own, after `change(content)`."""
    content = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    change(content)
    (folder / "checkpoints").mkdir(parents=True)
    torch.save(content, folder / "checkpoints" / "best.ckpt")
    return folder


def answers(path):
    return [int(row.split(",")[1]) for row in path.read_text().splitlines()[1:]]


def runs_of(classes):
    return 1 + sum(one != other for one, other in itertools.pairwise(classes))


def test_is_the_submission_of_the_training(run, tmp_path):
    path = run_predict(settings(run), tmp_path)
    assert path.read_bytes() == (run / "prediction.csv").read_bytes()


def test_from_the_command_line_with_a_sample_file(run, tmp_path):
    rows = (run / "prediction.csv").read_text().splitlines()
    (tmp_path / "sample.csv").write_text("\n".join([rows[0], *(f"{i},0" for i in range(len(rows) - 1))]))
    done = command(
        "predict",
        f"ckpt_path={run}/checkpoints/best.ckpt",
        "data=sample",
        "device=cpu",
        f"data.sample_submission={tmp_path}/sample.csv",
        f"hydra.run.dir={tmp_path}/out",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "prediction.csv").read_bytes() == (run / "prediction.csv").read_bytes()


def test_another_class_table_is_refused(run, tmp_path):
    section = settings_of(tmp_path, "data=timit11", f"data.root={timit11_folder(tmp_path / 'timit')}")["settings"][
        "data"
    ]
    with pytest.raises(InputError, match=r"the 41 classes of the checkpoint[\s\S]*got 39"):
        run_predict(settings(run, data=section), tmp_path)
    assert not (tmp_path / "prediction.csv").exists()


def of_40_coefficients(content):
    content["phoneme"]["coeffs"] = 40
    content["state_dict"]["model.blocks.0.linear.weight"] = torch.zeros(32, 5 * 40)


def test_another_feature_size_is_refused(run, tmp_path):
    other = altered(run, tmp_path, of_40_coefficients)
    with pytest.raises(InputError, match=r"expected 40 coefficients a frame, as the checkpoint has, got 39"):
        run_predict(settings(other), tmp_path)


def test_a_device_that_is_not_here(run, tmp_path):
    with pytest.raises(InputError, match=r"or a device that is here, got abacus"):
        run_predict(settings(run, device="abacus"), tmp_path)


def test_utterances_that_were_trained_on_are_pointed_out(run, tmp_path, caplog):
    """As when a network of one year labels the test split of another."""
    root = libriphone_folder(tmp_path / "data", n_train=2, n_test=3)
    known = read_checkpoint(run / "checkpoints" / "best.ckpt")["phoneme"]["split"]
    renamed = [known["train"][0], known["val"][0]]
    for old, new in zip(TEST, renamed, strict=False):
        (root / "feat" / "test" / f"{old}.pt").rename(root / "feat" / "test" / f"{new}.pt")
    (root / "test_split.txt").write_text("\n".join([*renamed, TEST[2]]))
    section = settings_of(tmp_path, f"data.root={root}")["settings"]["data"]
    run_predict(settings(run, data=section), tmp_path / "out")
    assert f"2 of the 3 utterances to predict were trained or validated on, e.g. {renamed[0]}" in caplog.text
    caplog.clear()
    run_predict(settings(run), tmp_path / "again")
    assert "trained or validated on" not in caplog.text


def test_a_folder_without_a_test_split(run, tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    for name in ("train_split.txt", "train_labels.txt", "phones.txt"):
        (root / name).write_bytes((shipped("data/sample") / name).read_bytes())
    section = settings_of(tmp_path, f"data.root={root}")["settings"]["data"]
    with pytest.raises(InputError, match="a folder with a test split, got none"):
        run_predict(settings(run, data=section), tmp_path)


# -- decoders ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decode", [HMM, {"name": "median", "window": [3, 7]}])
def test_a_decoder_is_tuned_and_says_what_it_gains(run, decode, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    smooth = answers(run_predict(settings(run, decode=decode), tmp_path))
    assert runs_of(smooth) < 0.8 * runs_of(answers(run / "prediction.csv"))
    found = json.loads((tmp_path / "decoding.json").read_text())
    assert found["decode"] == decode["name"] and found["tried"] == (4 if decode is HMM else 2)
    assert (found["utterances"], found["frames"]) == (17, 8951)
    assert all(value in decode[key] for key, value in found["chosen"].items())
    assert found["gain"]["gain"] == pytest.approx(found["accuracy"] - found["argmax_accuracy"])
    assert found["gain"]["low"] < found["gain"]["gain"] < found["gain"]["high"]
    assert "cross-fitted gain " in caplog.text and "on 17 validation utterances" in caplog.text
    assert ("decode=argmax is better here" in caplog.text) == (found["gain"]["gain"] < 0)


def test_argmax_looks_at_no_labels(run, tmp_path, monkeypatch):
    monkeypatch.setattr("phoneme.runs.predict.open_labelled", None)
    run_predict(settings(run), tmp_path)
    assert not (tmp_path / "decoding.json").exists()


@pytest.mark.parametrize("choice", ["argmax", "median", "hmm"])
def test_every_decoder_of_the_command_line(run, choice, tmp_path):
    done = command(
        "predict",
        f"ckpt_path={run}/checkpoints/best.ckpt",
        f"decode={choice}",
        *(["decode.transition_weight=[1.0]", "decode.minimum_frames=[2]"] if choice == "hmm" else []),
        "device=cpu",
        f"hydra.run.dir={tmp_path}",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "prediction.csv").exists() and (tmp_path / "decoding.json").exists() == (choice != "argmax")


def test_labels_come_from_the_training_if_the_data_to_predict_have_none(run, tmp_path, caplog):
    root = shipped("data/sample")
    other = tmp_path / "data"
    (other / "feat").mkdir(parents=True)
    (other / "feat" / "test").symlink_to(root / "feat" / "test")
    for name in ("test_split.txt", "phones.txt"):
        (other / name).write_bytes((root / name).read_bytes())
    section = settings_of(tmp_path, f"data.root={other}")["settings"]["data"]
    with caplog.at_level("INFO"):
        path = run_predict(settings(run, data=section, decode=HMM), tmp_path / "out")
    assert path.exists() and (tmp_path / "out" / "decoding.json").exists()
    assert "the labels are those of the training, not of the data to predict: expected" in caplog.text


def test_one_validation_utterance_is_too_few_to_tune(run, tmp_path):
    def keep_one(content):
        content["phoneme"]["split"]["val"] = content["phoneme"]["split"]["val"][:1]

    other = altered(run, tmp_path, keep_one)
    with pytest.raises(InputError, match="at least 2 labelled utterances that were not trained on, got 1"):
        run_predict(settings(other, decode=HMM), tmp_path)


def test_an_unknown_decoder(run, tmp_path):
    with pytest.raises(InputError, match=r"argmax or median or hmm, got crf\n  where: decode.name"):
        run_predict(settings(run, decode={"name": "crf"}), tmp_path)


# -- ensembles ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", ["equal", "fitted"])
def test_an_ensemble_says_what_it_gains(run, second, weights, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    path = run_predict(several(run, second, ensemble={"average": "linear", "weights": weights}), tmp_path)
    found = json.loads((tmp_path / "ensemble.json").read_text())
    own = [json.loads((r / "summary.json").read_text())["val_accuracy"] for r in (run, second)]
    assert found["validation"]["member_accuracies"] == pytest.approx(own, abs=1e-5)
    assert sum(member["weight"] for member in found["members"]) == pytest.approx(1)
    assert (found["members"][0]["weight"] == 0.5) == (weights == "equal")
    (_, one), (other, _) = found["test_agreement"]
    same = [a == b for a, b in zip(answers(run / "prediction.csv"), answers(second / "prediction.csv"), strict=True)]
    assert one == other == pytest.approx(sum(same) / len(same))
    assert len(answers(path)) == len(same)
    for line in ("ensemble of 2: linear average", "two members agree on", "gain over the best member", "weight 0."):
        assert line in caplog.text
    assert "different splits" not in caplog.text


def test_an_ensemble_is_decoded_as_a_whole(run, second, tmp_path):
    run_predict(several(run, second, decode=HMM), tmp_path)
    ensemble, decoding = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("ensemble", "decoding"))
    assert decoding["argmax_accuracy"] == pytest.approx(ensemble["validation"]["accuracy"])


def test_other_splits_are_scored_on_what_none_was_trained_on(run, third, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    run_predict(several(run, third, ensemble={"average": "log", "weights": "fitted"}), tmp_path)
    splits = [
        torch.load(r / "checkpoints" / "best.ckpt", weights_only=True)["phoneme"]["split"]["val"] for r in (run, third)
    ]
    common = {*splits[0]} & {*splits[1]}
    found = json.loads((tmp_path / "ensemble.json").read_text())
    assert found["validation"]["utterances"] == len(common) < 17
    assert f"the checkpoints have different splits: chosen and scored on the {len(common)} of " in caplog.text


def test_folds_have_no_utterance_in_common(run, tmp_path, caplog):
    def swap(content):
        split = content["phoneme"]["split"]
        split["train"], split["val"] = split["val"], split["train"]

    other = altered(run, tmp_path / "other", swap)
    run_predict(several(run, other), tmp_path)
    assert "no accuracies of the members" in caplog.text and "got 0" in caplog.text
    assert json.loads((tmp_path / "ensemble.json").read_text())["validation"] is None
    with pytest.raises(InputError, match="at least 2 labelled utterances that were not trained on, got 0"):
        run_predict(several(run, other, ensemble={"average": "log", "weights": "fitted"}), tmp_path)


def of_other_classes(content):
    content["phoneme"]["phones"]["phones"][7] = "other"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (of_40_coefficients, r"coefficients a frame as .* has: 39, got 40\n  where: .*other"),
        (of_other_classes, r"classes as .* has: 41: .*, got 41: .*\n  where: .*other"),
    ],
)
def test_a_member_that_does_not_fit_is_named(run, change, message, tmp_path):
    other = altered(run, tmp_path / "other", change)
    with pytest.raises(InputError, match=message):
        run_predict(several(run, other), tmp_path)


def test_one_checkpoint_twice_and_none(run, tmp_path):
    with pytest.raises(InputError, match=r"one checkpoint, or several different ones[\s\S]*where: ckpt_path"):
        run_predict(several(run, run), tmp_path)
    with pytest.raises(InputError, match="got an empty list"):
        run_predict(settings(run, ckpt_path=[]), tmp_path)


def test_fitted_weights_of_one_checkpoint_have_no_effect(run, tmp_path, caplog):
    path = run_predict(settings(run, ensemble={"average": "log", "weights": "fitted"}), tmp_path)
    assert "ensemble.weights=fitted has no effect" in caplog.text
    assert path.read_bytes() == (run / "prediction.csv").read_bytes()


def test_several_checkpoints_on_the_command_line(run, second, tmp_path):
    done = command(
        "predict",
        f"ckpt_path=[{run}/checkpoints/best.ckpt,{second}/checkpoints/best.ckpt]",
        "device=cpu",
        f"hydra.run.dir={tmp_path}",
        cwd=tmp_path,
    )
    assert done.returncode == 0 and "ensemble of 2" in done.stderr, done.stderr
