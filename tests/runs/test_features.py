"""Features are part of a network: a checkpoint remembers them, and whoever reads it gets frames made like those."""

import json
import shutil

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import phoneme
from phoneme.checkpoint import features_of, read_checkpoint
from phoneme.columns import Features
from phoneme.config import CONF, register_schemas, shipped
from phoneme.errors import InputError
from phoneme.runs.data import open_stores, open_train
from phoneme.runs.diagnose import run_diagnose
from phoneme.runs.members import open_each, read_members
from phoneme.runs.predict import run_predict
from phoneme.store import FrameStore
from tests.folders import AUDIO, audio_folder
from tests.helpers import baseline_in, settings_of, train_in

ONE_EPOCH = ("trainer.max_epochs=1", "model.context=1", "model.depth=1")


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    folder = tmp_path_factory.mktemp("course")
    train_in(folder, *ONE_EPOCH)
    return folder


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """65 columns, scaled over the training split."""
    folder = tmp_path_factory.mktemp("both")
    train_in(folder, *ONE_EPOCH, "features=both", "features.normalise=global", "seed=1")
    return folder


def settings(*runs, **changes):
    paths = [str(run / "checkpoints" / "best.ckpt") for run in runs]
    return {
        "ckpt_path": paths if len(paths) > 1 else paths[0],
        "data": None,
        "ensemble": {"average": "log", "weights": "equal"},
        "decode": {"name": "argmax"},
        "device": "cpu",
        "batch_size": 999,
    } | changes


def section(folder, *overrides):
    return settings_of(folder, *overrides)["settings"]["data"]


def test_a_checkpoint_remembers_its_features(course, both):
    of_course, of_both = (features_of(read_checkpoint(run / "checkpoints" / "best.ckpt")) for run in (course, both))
    assert of_course == Features("course", "auto", source="mfcc39")
    assert (of_both.name, of_both.normalise, of_both.source) == ("both", "global", "mfcc39")
    frames = open_train(section(both, "data=sample"), Features("both", "none")).frames.double()
    torch.testing.assert_close(torch.tensor(of_both.mean).double(), frames.mean(0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(torch.tensor(of_both.deviation).double(), frames.std(0), rtol=1e-5, atol=1e-6)


def test_prediction_makes_the_same_features_again(both, tmp_path):
    path = run_predict(settings(both), tmp_path)
    assert path.read_bytes() == (both / "prediction.csv").read_bytes()


def test_statistics_come_from_the_training_where_the_folder_has_none(both, tmp_path):
    root = tmp_path / "data"
    (root / "feat").mkdir(parents=True)
    (root / "feat" / "test").symlink_to(shipped("data/sample") / "feat" / "test")
    for name in ("test_split.txt", "phones.txt"):
        shutil.copyfile(shipped("data/sample") / name, root / name)
    path = run_predict(settings(both, data=section(tmp_path, f"data.root={root}")), tmp_path / "out")
    assert path.read_bytes() == (both / "prediction.csv").read_bytes()


def test_a_network_of_the_homework_labels_recordings(course, tmp_path):
    """Recordings of training utterances: the labels are those of their published features."""
    root = tmp_path / "voices"
    root.mkdir()
    ids = sorted(path.stem for path in AUDIO.glob("*.flac"))
    for id in ids:
        shutil.copyfile(AUDIO / f"{id}.flac", root / f"{id}.flac")
    path = run_predict(settings(course, data=section(tmp_path, "data=audio", f"data.root={root}")), tmp_path / "out")
    found = torch.tensor([int(row.split(",")[1]) for row in path.read_text().splitlines()[1:]])
    sample = shipped("data/sample")
    published = torch.cat([torch.load(sample / "feat" / "train" / f"{id}.pt", weights_only=True) for id in ids])
    with torch.no_grad():
        expected = phoneme.load(course / "checkpoints" / "best.ckpt")(published[:, None, :]).argmax(-1)
    assert (found == expected).double().mean() > 0.99  # a tie may fall either way at 6e-5


def test_a_scale_of_the_homework_s_columns_is_not_that_of_recordings(both, tmp_path):
    data = section(tmp_path, "data=audio", f"data.root={audio_folder(tmp_path / 'speech')}")
    with pytest.raises(InputError, match=r"made from mfcc39, as those of the checkpoint: both \(normalise=global\)"):
        run_predict(settings(both, data=data), tmp_path)


def test_each_member_of_an_ensemble_reads_its_own_features(course, both, tmp_path):
    run_predict(settings(course, both), tmp_path)
    found = json.loads((tmp_path / "ensemble.json").read_text())["validation"]["member_accuracies"]
    own = [json.loads((run / "summary.json").read_text())["val_accuracy"] for run in (course, both)]
    assert found == pytest.approx(own, abs=1e-5)


def test_members_that_cannot_read_the_same_files_are_refused(course, tmp_path):
    root = audio_folder(tmp_path / "speech")
    other = tmp_path / "mel"
    train_in(other, *ONE_EPOCH, "data=audio", f"data.root={root}", "features=logmel40")
    with pytest.raises(InputError, match=r"recordings, from which log-mel energies[\s\S]*got libriphone"):
        run_predict(settings(course, other), tmp_path / "out")


def test_members_whose_features_dropped_other_utterances_are_refused(course, both, tmp_path):
    members = read_members(settings(course, both)["ckpt_path"])
    full = open_stores(section(tmp_path, "data=sample"), Features("both")).train

    def open_store(features):
        if features.name == "both":
            return full
        fewer = full.offsets[:-1]
        return FrameStore(full.frames[: fewer[-1], :39], None, fewer, full.ids[:-1], full.speakers[:-1], full.phones)

    with pytest.raises(InputError, match=r"the 82 utterances with [\s\S]*got 83 with 40787[\s\S]*both \(normalise=glo"):
        open_each(members, open_store)


def test_training_continues_with_the_same_features_only(course, tmp_path):
    path = course / "checkpoints" / "last.ckpt"
    with pytest.raises(
        InputError, match=r"features=course \(normalise=auto\), as in .*got features=course \(norm.*spe"
    ):
        train_in(tmp_path, *ONE_EPOCH, f"ckpt_path={path}", "features.normalise=speaker", "trainer.max_epochs=2")
    train_in(tmp_path, *ONE_EPOCH, f"ckpt_path={path}", "trainer.max_epochs=2")


def test_a_diagnosis_reads_the_features_of_the_network(both, tmp_path):
    register_schemas()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(
            "diagnose",
            [f"ckpt_path={both}/checkpoints/last.ckpt", "probe.frames=64", "probe.second=64", "spectrum=extremes"],
        )
    (answer,) = run_diagnose(OmegaConf.to_container(config, resolve=True) | {"tolerance": 1e-2}, tmp_path)
    assert answer.to_dict()["data"]["targets"] == 64


def test_a_baseline_remembers_its_features_too(tmp_path):
    baseline_in(tmp_path, "features=time_deltas", "features.normalise=global")
    found = features_of(read_checkpoint(tmp_path / "checkpoints" / "best.ckpt"))
    assert (found.name, found.normalise, len(found.mean)) == ("time_deltas", "global", 39)
    path = run_predict(settings(tmp_path), tmp_path / "again")
    assert path.read_bytes() == (tmp_path / "prediction.csv").read_bytes()


def test_copies_train_and_do_not_validate(tmp_path):
    root = audio_folder(tmp_path / "speech")
    speeds = ("data=audio", f"data.root={root}", "data.speeds=[0.9,1.0,1.1]", "data.noise_snr_db=15")
    summary = train_in(tmp_path / "run", *ONE_EPOCH, *speeds)
    split = read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")["phoneme"]["split"]
    assert len(split["train"]) == 2 * 4 and len(split["val"]) == 1
    (held_out,) = split["val"]
    assert not any(id.startswith(held_out) for id in split["train"])
    labels = (shipped("data/sample") / "train_labels.txt").read_text().splitlines()
    assert summary["val_frames"] == next(len(line.split()) - 1 for line in labels if line.startswith(held_out))
