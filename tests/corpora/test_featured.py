"""Scales over utterances, speakers and the training split against brute force; what cannot be made is refused."""

import pytest
import torch

from phoneme.columns import COURSE, Features
from phoneme.corpora import LibriPhone, Timit11, open_corpus
from phoneme.corpora.featured import with_features
from phoneme.errors import InputError
from phoneme.store import find_statistics, open_store
from tests.folders import TRAIN, audio_folder, features, libriphone_folder, timit11_folder

N = 30  # of the bundled utterances: two speakers


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return libriphone_folder(tmp_path_factory.mktemp("corpus") / "libriphone", n_train=N, n_test=3)


@pytest.fixture(autouse=True)
def user_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))


def store(root, split="train", corpus=LibriPhone, **choice):
    return open_store(with_features(corpus(root), Features(**choice)), split, progress=False)


def parts(found):
    return dict(zip(found.ids, found.frames.split(found.offsets.diff().tolist()), strict=True))


def test_the_course_is_the_corpus_itself(root):
    corpus = LibriPhone(root)
    assert with_features(corpus, COURSE) is corpus
    found = parts(store(root))
    assert all(torch.equal(found[id], features(id)) for id in TRAIN[:N])


def test_over_the_speaker(root):
    unscaled, scaled = (store(root, name="both", normalise=how) for how in ("none", "speaker"))
    speakers = sorted(set(unscaled.speakers))
    assert len(speakers) > 1 and scaled.coeffs == 65
    for speaker in speakers:
        rows = [row for row, other in enumerate(unscaled.speakers) if other == speaker]
        mine = unscaled.frame_indices(torch.tensor(rows))
        expected = unscaled.frames[mine].double()
        expected = (expected - expected.mean(0)) / expected.std(0)
        torch.testing.assert_close(scaled.frames[mine].double(), expected, rtol=1e-5, atol=1e-5)


def test_over_the_training_split_and_the_same_for_the_test_split(root):
    unscaled = {split: store(root, split, name="time_deltas", normalise="none") for split in ("train", "test")}
    corpus = with_features(LibriPhone(root), Features("time_deltas", "none"))
    mean, deviation = find_statistics(corpus, progress=False)
    train = unscaled["train"].frames.double()
    torch.testing.assert_close(torch.tensor(mean, dtype=torch.float64), train.mean(0), rtol=1e-9, atol=1e-9)
    choice = Features("time_deltas", "global").measured(mean, deviation)
    for split, before in unscaled.items():
        scaled = open_store(with_features(LibriPhone(root), choice), split, progress=False)
        expected = (before.frames.double() - train.mean(0)) / train.std(0)
        torch.testing.assert_close(scaled.frames.double(), expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(scaled.frames.mean(0), torch.zeros(39), atol=1e-3)  # the test split is not centred


def test_over_the_utterance_once_more_changes_nothing(root):
    for id, found in parts(store(root, normalise="utterance")).items():
        torch.testing.assert_close(found, features(id), rtol=0, atol=1e-5)


def test_choices_are_kept_side_by_side(root):
    kinds = ({"name": "statics"}, {"name": "both"}, {"name": "statics", "normalise": "speaker"}, {})
    entries = []
    for kind in kinds * 2:
        store(root, **kind)
        entries.append({path.name for path in (root / ".phoneme-cache").glob("libriphone-train-*") if path.is_dir()})
    assert entries[3] == entries[-1] and len(entries[3] - entries[2]) <= 1 and len(entries[3]) >= 4


def test_copies_do_not_count_for_a_scale(tmp_path):
    root = audio_folder(tmp_path / "speech")
    answers = {}
    for speeds in ([1.0], [0.9, 1.0, 1.1]):
        for how in ("speaker", "none"):
            corpus = open_corpus("audio", root, features=Features("statics", how), speeds=speeds)
            answers[how, len(speeds)] = open_store(corpus, "train", progress=False)
        answers["statistics", len(speeds)] = find_statistics(corpus, progress=False)
    few, many = answers["speaker", 1], answers["speaker", 3]
    assert many.ids[:3] == few.ids and torch.equal(many.frames[: few.n_frames], few.frames)
    assert set(many.copies) == set(many.ids[3:]) and many.copies["27-124992-0026-sp0.9"] == "27-124992-0026"
    assert answers["statistics", 1] == answers["statistics", 3]


@pytest.mark.parametrize("how", ["auto", "utterance", "global", "none"])
def test_2021_has_any_scale_but_the_speakers(tmp_path, how):
    root = timit11_folder(tmp_path / "timit")
    choice = Features(normalise=how)
    if how == "global":
        choice = choice.measured([1.0] * 39, [2.0] * 39)
    found = open_store(with_features(Timit11(root), choice), "train", progress=False)
    own = torch.cat([features(id) for id in TRAIN[:4]])
    expected = (own - 1) / 2 if how == "global" else own
    torch.testing.assert_close(found.frames, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["statics", "time_deltas", "both"])
def test_columns_without_names_cannot_be_chosen_from(tmp_path, name):
    message = (
        r"13 statics, 13 deltas and 13 delta-deltas, got timit11 with 39 .*[\s\S]*features.name[\s\S]*hint: features=co"
    )
    with pytest.raises(InputError, match=message):
        open_corpus("timit11", timit11_folder(tmp_path / "timit"), features=Features(name))


def test_energies_need_recordings(root):
    with pytest.raises(InputError, match=r"expected recordings.*got libriphone, whose files[\s\S]*hint: data=audio"):
        open_corpus("libriphone", root, features=Features("logmel", bins=40))


def test_no_speaker_to_normalise_over(root, tmp_path):
    corpus = open_corpus("libriphone", root, features=Features(normalise="speaker"), speaker_pattern="^(x)-")
    with pytest.raises(
        InputError, match=rf"a speaker for each utterance, got none for {TRAIN[0]}\n.*features.normalis"
    ):
        open_store(corpus, "train", progress=False)
    corpus = open_corpus("timit11", timit11_folder(tmp_path / "timit"), features=Features(normalise="speaker"))
    with pytest.raises(InputError, match="got none for train-00000"):
        open_store(corpus, "train", progress=False)


@pytest.mark.parametrize(("how", "source"), [("speaker", "audio"), ("none", "audio"), ("global", "audio")])
def test_another_source_has_another_scale(root, how, source):
    choice = Features("statics", how, source=source)
    with pytest.raises(InputError, match=r"frames made from audio, as those of the checkpoint: statics \(normalise="):
        open_corpus("libriphone", root, features=choice)
    open_corpus("libriphone", root, features=Features("statics", "utterance", source=source))


def test_an_utterance_of_one_frame_is_a_problem_of_its_own(tmp_path):
    root = libriphone_folder(tmp_path / "libriphone")
    torch.save(features(TRAIN[1])[:1].clone(), root / "feat" / "train" / f"{TRAIN[1]}.pt")
    labels = (root / "train_labels.txt").read_text().splitlines()
    lines = [" ".join(line.split()[:2]) if line.startswith(TRAIN[1]) else line for line in labels]
    (root / "train_labels.txt").write_text("\n".join(lines))
    for choice in (Features("time_deltas"), Features("statics", "utterance")):
        with pytest.raises(InputError, match=f"{TRAIN[1]}: expected at least two frames, got 1"):
            open_store(with_features(LibriPhone(root), choice), "train", progress=False)


def test_statistics_of_bad_files_are_not_taken(tmp_path):
    root = libriphone_folder(tmp_path / "libriphone")
    torch.save(torch.full((5, 39), torch.nan), root / "feat" / "train" / f"{TRAIN[1]}.pt")
    corpus = with_features(LibriPhone(root), Features("course", "none"))
    with pytest.raises(InputError, match="4 good train utterances, got 1 bad ones"):
        find_statistics(corpus, progress=False)
    mean, _ = find_statistics(corpus, on_bad_utterance="drop", progress=False)
    own = torch.cat([features(TRAIN[place]) for place in (0, 2, 3)]).double()
    torch.testing.assert_close(torch.tensor(mean, dtype=torch.float64), own.mean(0), rtol=1e-9, atol=1e-9)
