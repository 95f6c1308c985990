import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoneme.errors import InputError
from phoneme.splits import Split, split_ids

IDS = tuple(f"{speaker}-{k}" for k in range(5) for speaker in "dbac")
SPEAKERS = tuple(id[0] for id in IDS)


def course_split(ids, train_ratio=0.8, train_val_seed=1337):
    """What the sample code of 2022 does: shuffle, then cut."""
    ids = list(ids)
    random.Random(train_val_seed).shuffle(ids)
    percent = int(len(ids) * train_ratio)
    return tuple(ids[:percent]), tuple(ids[percent:])


@pytest.mark.parametrize("n", [20, 83, 4286])
def test_by_utterance_is_the_course_split(n):
    ids = [str(k) for k in range(n)]
    split = split_ids(ids, [None] * n, val_fraction=0.2, seed=1337)
    assert (split.train, split.val) == course_split(ids)


def test_2022_has_3428_training_utterances():
    ids = [str(k) for k in range(4286)]
    assert len(split_ids(ids, [None] * 4286, val_fraction=0.2).train) == 3428


@given(
    n=st.integers(2, 40),
    by=st.sampled_from(["utterance", "speaker"]),
    val_fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 5),
)
def test_every_id_is_on_one_side(n, by, val_fraction, seed):
    ids = [f"u{k}" for k in range(n)]
    split = split_ids(ids, [str(k % 5) for k in range(n)], by=by, val_fraction=val_fraction, seed=seed)
    assert sorted(split.train + split.val) == sorted(ids)


@given(seed=st.integers(0, 20), val_fraction=st.floats(0.01, 0.99))
def test_by_speaker_no_speaker_is_on_both_sides(seed, val_fraction):
    split = split_ids(IDS, SPEAKERS, by="speaker", val_fraction=val_fraction, seed=seed)
    assert {id[0] for id in split.train}.isdisjoint(id[0] for id in split.val)


@pytest.mark.parametrize(("by", "folds"), [("utterance", 3), ("utterance", 20), ("speaker", 2), ("speaker", 4)])
def test_folds_are_disjoint_and_cover_everything(by, folds):
    splits = [split_ids(IDS, SPEAKERS, by=by, folds=folds, fold=fold, seed=7) for fold in range(folds)]
    assert sorted(id for split in splits for id in split.val) == sorted(IDS)
    assert all(sorted(split.train + split.val) == sorted(IDS) for split in splits)


def test_the_seed_decides():
    assert split_ids(IDS, SPEAKERS, seed=1) == split_ids(IDS, SPEAKERS, seed=1)
    assert split_ids(IDS, SPEAKERS, seed=1) != split_ids(IDS, SPEAKERS, seed=2)


@given(
    seed=st.integers(0, 5),
    by=st.sampled_from(["utterance", "speaker"]),
    folds=st.sampled_from([None, 2, 4]),
    copied=st.sets(st.sampled_from(IDS)),
)
def test_copies_train_with_their_original_and_never_validate(seed, by, folds, copied):
    copies = {f"{id}-sp{speed}": id for speed in ("0.9", "1.1") for id in sorted(copied)}
    speakers = (*SPEAKERS, *(copy[0] for copy in copies))
    options = {"by": by, "seed": seed, "folds": folds, "val_fraction": 0.3}
    without = split_ids(IDS, SPEAKERS, **options)
    split = split_ids((*IDS, *copies), speakers, copies=copies, **options)
    assert split.val == without.val and split.train[: len(without.train)] == without.train
    assert set(split.train) == {*without.train, *(copy for copy, id in copies.items() if id in without.train)}


def test_a_copy_whose_original_is_gone_does_not_train():
    split = split_ids(["a", "b", "c-sp0.9"], [None] * 3, copies={"c-sp0.9": "c"})
    assert sorted(split.train + split.val) == ["a", "b"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "frame"}, "expected utterance or speaker, got frame"),
        ({"val_fraction": 0.0}, "share between 0 and 1, got 0.0\n  where: data.split.val_fraction"),
        ({"val_fraction": 1.0}, "share between 0 and 1, got 1.0"),
        ({"folds": 1}, "number of folds, two or more.*got folds=1, fold=0"),
        ({"folds": 3, "fold": 3}, "got folds=3, fold=3"),
        ({"fold": 1}, "got folds=None, fold=1"),
        ({"folds": 21}, "expected at least 21 utterances to split, got 20"),
        ({"folds": 5, "by": "speaker"}, "expected at least 5 speakers to split, got 4"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(InputError, match=message):
        split_ids(IDS, SPEAKERS, **options)


def test_one_utterance_cannot_be_split():
    with pytest.raises(InputError, match="at least 2 utterances to split, got 1"):
        split_ids(["a"], [None])


def test_by_speaker_needs_speakers():
    with pytest.raises(InputError, match=r"a speaker for each utterance, got none for b\n.*data.split.by"):
        split_ids(["a", "b"], ["x", None], by="speaker")


@pytest.mark.parametrize(("train", "val"), [(("a",), ("a",)), (("a", "a"), ("b",)), ((), ("a",)), (("a",), ())])
def test_a_split_that_lies_cannot_be_made(train, val):
    with pytest.raises(AssertionError):
        Split(train, val)
