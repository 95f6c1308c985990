import logging

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from phoneme.corpora import Timit11, open_corpus, timit11
from phoneme.errors import InputError
from phoneme.phones import timit39
from tests.folders import LABELS, TEST, TRAIN, features, timit11_folder, windows


@pytest.fixture
def root(tmp_path):
    return timit11_folder(tmp_path / "timit_11")


def read(root, split="train"):
    utterances = Timit11(root).utterances(split)
    return [utterances.read(position) for position in range(len(utterances.ids))]


def change(path, alter):
    array = np.load(path)
    np.save(path, alter(array))


def test_utterances_are_rebuilt_bitwise(root):
    answers = read(root)
    assert [answer.id for answer in answers] == ["train-00000", "train-00001", "train-00002", "train-00003"]
    for answer, id in zip(answers, TRAIN, strict=False):
        assert torch.equal(answer.features, features(id))
        assert answer.labels.tolist() == [int(label) % 39 for label in LABELS[id]]
        assert answer.speaker is None


@pytest.mark.parametrize("split", ["train", "test"])
def test_windows_of_the_utterances_are_the_rows_of_the_file(root, split, caplog):
    rows = np.concatenate([windows(answer.features.numpy()) for answer in read(root, split)])
    assert np.array_equal(rows, np.load(root / f"{split}_11.npy"))
    assert not caplog.records


def test_the_test_split_keeps_the_order_of_its_rows(root):
    answers = read(root, "test")
    assert torch.equal(torch.cat([answer.features for answer in answers]), torch.cat([features(id) for id in TEST[:2]]))
    assert all(answer.labels is None for answer in answers)
    assert answers[1].id == "test-00001"


@pytest.mark.parametrize("folder", ["timit_11", "."])
def test_the_files_may_lie_in_the_folder_or_below(tmp_path, folder):
    timit11_folder(tmp_path / folder)
    corpus = open_corpus("timit11", tmp_path)
    assert corpus.root == (tmp_path / folder).resolve()
    assert corpus.phones == timit39()
    assert [path.name for path in corpus.files("train")] == ["train_11.npy", "train_label_11.npy"]
    assert [path.name for path in corpus.files("test")] == ["test_11.npy"]


@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=8), at_once=st.sampled_from([1, 2, 7, 8192]))
def test_starts_are_found_whatever_the_lengths(tmp_path_factory, lengths, at_once):
    path = tmp_path_factory.mktemp("rows") / "train_11.npy"
    frames = np.arange(sum(lengths) * 39, dtype=np.float32).reshape(-1, 39)
    ends = np.cumsum(lengths)
    np.save(path, np.concatenate([windows(part) for part in np.split(frames, ends[:-1])]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timit11, "ROWS_AT_ONCE", at_once)
        assert timit11.find_starts(path) == [0, *ends[:-1]]


def test_edges_that_are_not_copies_are_warned_of(root, caplog):
    # a recording from which the first and last five rows were cut: their frames remain in the neighbours only
    rows = windows(features(TRAIN[0]).numpy())[5:-5]
    whole = windows(features(TRAIN[1]).numpy())
    np.save(root / "test_11.npy", np.concatenate([rows, whole]))
    with caplog.at_level(logging.WARNING):
        answers = read(root, "test")
    assert [len(answer.features) for answer in answers] == [len(rows), len(whole)]
    (record,) = caplog.records
    assert "in 1 of 2 utterances the first or last rows show frames that have no row" in record.getMessage()
    assert "repeat the edge frame instead" in record.getMessage()


def test_zeros_in_place_of_the_edges_are_warned_of(root, caplog):
    frames = np.pad(features(TRAIN[0]).numpy(), ((5, 5), (0, 0)))
    np.save(root / "test_11.npy", windows(frames)[5:-5])
    assert len(read(root, "test")) == 1
    assert "in 1 of 1 utterances" in caplog.text


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, "S2", "U7"])
def test_labels_may_be_integers_or_strings(root, dtype):
    change(root / "train_label_11.npy", lambda labels: labels.astype(np.int64).astype(dtype))
    assert read(root)[0].labels.tolist() == [int(label) % 39 for label in LABELS[TRAIN[0]]]


def test_only_one_split_need_be_there(root):
    assert Timit11(root).has_split("test")
    (root / "test_11.npy").unlink()
    assert not Timit11(root).has_split("test")


# -- what can be wrong


def with_label(label):
    def alter(labels):
        labels = labels.astype("U3")
        labels[3] = label
        return labels

    return alter


@pytest.mark.parametrize(
    ("label", "what"),
    [
        ("39", "row 3: the label 39 is not one of 0 to 38"),
        ("-1", "row 3: the label -1 is not one of 0 to 38"),
        ("iy", "invalid literal for int"),
        ("1.5", "invalid literal for int"),
    ],
)
def test_a_bad_label(root, label, what):
    change(root / "train_label_11.npy", with_label(label))
    ((problem,), *good) = read(root)
    assert problem.file == "train_label_11.npy" and what in problem.what
    assert len(good) == 3


def test_nan_stays_within_its_utterance(root):
    change(root / "train_11.npy", lambda rows: np.where(rows == rows[0, 5 * 39], np.float32("nan"), rows))
    ((problem,), *good) = read(root)
    last = len(LABELS[TRAIN[0]]) - 1
    assert str(problem) == f"train_11.npy: NaN or infinity in rows 0 to {last}"
    assert len(good) == 3


def test_a_missing_folder(tmp_path):
    with pytest.raises(InputError, match=r"train_11.npy or test_11.npy in it, or in timit_11/, got no such folder"):
        Timit11(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("alter", "got"),
    [
        (lambda rows: rows[:, :39], r"float32 \[\d+, 39\]"),
        (lambda rows: rows.astype(np.float64), r"float64 \[\d+, 429\]"),
        (lambda rows: rows.ravel(), r"float32 \[\d+\]"),
        (lambda rows: rows[:0], r"float32 \[0, 429\]"),
    ],
)
def test_rows_of_another_shape(root, alter, got):
    change(root / "train_11.npy", alter)
    with pytest.raises(InputError, match=rf"float32 \[rows, 429\], got {got}\n  where: .*train_11.npy"):
        read(root)


def test_a_label_too_few(root):
    change(root / "train_label_11.npy", lambda labels: labels[1:])
    with pytest.raises(InputError, match=r"\d+ labels, strings or integers: one for each row, got <U2 \[\d+\]"):
        read(root)


def test_labels_that_are_pickled_are_not_loaded(root):
    np.save(root / "train_label_11.npy", np.array(["0", 1], dtype=object), allow_pickle=True)
    with pytest.raises(
        InputError, match=r"got ValueError: Array can't be memory-mapped|got ValueError: .*allow_pickle"
    ):
        read(root)


def test_a_truncated_file(root):
    data = (root / "train_11.npy").read_bytes()
    (root / "train_11.npy").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"a .npy file of numbers or strings, got ValueError: mmap length"):
        read(root)


def test_labels_that_are_not_there(root):
    (root / "train_label_11.npy").unlink()
    with pytest.raises(InputError, match="got FileNotFoundError"):
        read(root)
