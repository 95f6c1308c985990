import os
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest
import torch

from phoneme.config import shipped
from phoneme.corpora import LibriPhone, Problem, Utterance, open_corpus
from phoneme.errors import InputError
from phoneme.phones import unnamed
from tests.folders import LABELS, SAMPLE, TEST, TRAIN, features, libriphone_folder, write_labels


@pytest.fixture
def root(tmp_path):
    return libriphone_folder(tmp_path / "corpus")


def read(root, split="train", **options):
    utterances = LibriPhone(root, **options).utterances(split)
    return [utterances.read(position) for position in range(len(utterances.ids))]


def problems(root, split="train"):
    return [str(problem) for answer in read(root, split) if isinstance(answer, list) for problem in answer]


def feat(root, id=TRAIN[0], split="train"):
    return root / "feat" / split / f"{id}.pt"


def test_utterances_are_joined_to_their_labels_by_id(root):
    answers = read(root)
    assert [answer.id for answer in answers] == list(TRAIN[:4])
    for answer in answers:
        assert torch.equal(answer.features, features(answer.id))
        assert answer.labels.tolist() == [int(label) for label in LABELS[answer.id]]
        assert answer.speaker == answer.id.split("-")[0]


def test_the_test_split_has_no_labels(root):
    answers = read(root, "test")
    assert [answer.id for answer in answers] == list(TEST[:2])
    assert all(answer.labels is None for answer in answers)


def test_the_bundled_sample_is_whole():
    corpus = open_corpus("libriphone", SAMPLE)
    for split, utterances, frames in (("train", 83, 40_787), ("test", 20, 10_638)):
        answers = read(SAMPLE, split)
        assert all(isinstance(answer, Utterance) for answer in answers)
        assert (len(answers), sum(len(answer.features) for answer in answers)) == (utterances, frames)
        assert all(path.exists() for path in corpus.files(split))
    assert (len(corpus.phones), corpus.coeffs) == (41, 39)


def test_the_bundled_accented_speech_is_whole():
    corpus = open_corpus("libriphone", shipped("data/accented"), speaker_pattern=r"^(\d{5})")
    utterances = corpus.utterances("train")
    answers = [utterances.read(place) for place in range(len(utterances.ids))]
    assert all(isinstance(answer, Utterance) and len(answer.labels) == len(answer.features) for answer in answers)
    assert (len(answers), sum(len(answer.features) for answer in answers)) == (30, 9045)
    assert len({answer.speaker for answer in answers}) == 15 and not corpus.has_split("test")
    assert corpus.phones == open_corpus("libriphone", SAMPLE).phones


def test_a_folder_without_a_table_is_unnamed(root):
    (root / "phones.txt").unlink()
    assert LibriPhone(root).phones == unnamed(41)


def test_the_folder_may_be_the_parent(tmp_path):
    libriphone_folder(tmp_path / "libriphone")
    assert LibriPhone(tmp_path).root == tmp_path / "libriphone"


def test_windows_line_ends_blank_lines_and_a_byte_order_mark(root):
    for name in ("train_split.txt", "train_labels.txt"):
        text = (root / name).read_bytes().replace(b"\n", b"\r\n\r\n")
        (root / name).write_bytes(b"\xef\xbb\xbf" + text + b"\r\n \r\n")
    assert [answer.id for answer in read(root)] == list(TRAIN[:4])


def test_labels_of_other_utterances_do_no_harm(root):
    (root / "train_split.txt").write_text(TRAIN[2])
    assert [answer.id for answer in read(root)] == [TRAIN[2]]


def test_tabs_and_double_spaces_between_labels(root):
    text = (root / "train_labels.txt").read_text()
    (root / "train_labels.txt").write_text(text.replace(" ", "\t", 3).replace(" ", "  "))
    assert [answer.id for answer in read(root)] == list(TRAIN[:4])


# -- speakers


@pytest.mark.parametrize(("pattern", "speaker"), [(r"^([^-]+)-", "19"), (r"^\d+-(\d+)", "198"), (r"^([a-z]+)-", None)])
def test_the_pattern_finds_the_speaker(root, pattern, speaker):
    assert read(root, speaker_pattern=pattern)[0].speaker == speaker


def test_a_group_that_takes_no_part_is_no_speaker(root):
    assert read(root, speaker_pattern="^(x)?")[0].speaker is None


@pytest.mark.parametrize(("pattern", "why"), [("^[^-]+", "which has no group"), ("(", "unterminated subpattern")])
def test_a_bad_pattern(root, pattern, why):
    with pytest.raises(InputError, match=f"expression with a group, the speaker, got .*{why}"):
        LibriPhone(root, speaker_pattern=pattern)


# -- the folder


def test_a_missing_folder(tmp_path):
    with pytest.raises(InputError, match=r"a folder with train_split.txt.*got no such folder\n.*where.*nowhere"):
        LibriPhone(tmp_path / "nowhere")


def test_another_folder(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match=r"got notes.txt\n  where: .*\n  hint: set data.root"):
        LibriPhone(tmp_path)


def test_an_empty_split_file(root):
    (root / "train_split.txt").write_text("\n  \n")
    with pytest.raises(InputError, match=r"one utterance id a line, got an empty file\n.*train_split.txt"):
        read(root)


@pytest.mark.parametrize("name", ["train_split.txt", "train_labels.txt"])
def test_a_missing_text_file(root, name):
    (root / name).unlink()
    with pytest.raises(InputError, match=rf"a text file, got FileNotFoundError: .*\n.*{name}"):
        read(root)


def test_a_split_is_there_if_any_of_it_is(root):
    (root / "test_split.txt").unlink()
    assert LibriPhone(root).has_split("test")  # features without a list: an error when opened, not silence
    shutil.rmtree(root / "feat" / "test")
    assert not LibriPhone(root).has_split("test")


def test_unknown_names(root):
    with pytest.raises(InputError, match=r"a corpus format, got 'libriphon'\n.*data.name\n.*did you mean libriphone"):
        open_corpus("libriphon", root)
    with pytest.raises(InputError, match=r"an option of libriphone, got speaker\n.*\n.*did you mean speaker_pattern"):
        open_corpus("libriphone", root, speaker="x")


# -- the split file


@pytest.mark.parametrize("id", ["../../x", "..", ".", "a/b", "a\\b", "/etc/passwd", "two words", "nul\0"], ids=repr)
def test_an_id_that_is_not_a_file_name(root, id):
    (root / "train_split.txt").write_text(f"{TRAIN[0]}\n{id}\n{TRAIN[1]}")
    assert problems(root) == [f"train_split.txt:2: {id!r} is not the name of a file in feat/train/"]
    assert all(path.is_relative_to(root) and ".." not in path.parts for path in LibriPhone(root).files("train"))


def test_a_link_that_leaves_the_folder(root, tmp_path):
    shutil.move(feat(root), tmp_path / "elsewhere.pt")
    feat(root).symlink_to(tmp_path / "elsewhere.pt")
    assert problems(root) == [f"train_split.txt:1: {TRAIN[0]!r} is a link that leaves feat/train/"]


def test_the_feature_folder_itself_may_be_a_link(root, tmp_path):
    shutil.move(root / "feat", tmp_path / "big disk")
    (root / "feat").symlink_to(tmp_path / "big disk")
    assert problems(root) == []


def test_a_duplicate_id(root):
    (root / "train_split.txt").write_text("\n".join([TRAIN[0], TRAIN[1], TRAIN[0]]))
    answers = read(root)
    assert isinstance(answers[0], Utterance)
    assert problems(root) == [f"train_split.txt:3: {TRAIN[0]} is listed already in line 1"]


# -- labels


def test_labels_that_do_not_fit(root):
    good, long, wide, word = (list(LABELS[id]) for id in TRAIN[:4])
    wide[5], word[7] = "41", "AA"
    write_labels(root, dict(zip(TRAIN, (good, [*long, "0"], wide, word), strict=False)))
    assert problems(root) == [
        f"train_labels.txt:2: {TRAIN[1]} has {len(long) + 1} labels for {len(long)} frames",
        f"train_labels.txt:3: {TRAIN[2]}: the label '41' is not an integer from 0 to 40",
        f"train_labels.txt:4: {TRAIN[3]}: the label 'AA' is not an integer from 0 to 40",
    ]


@pytest.mark.parametrize("label", ["-1", "1.0", "1e1", "nan", "٣"])
def test_labels_that_are_not_classes(root, label):
    write_labels(root, {**{id: LABELS[id] for id in TRAIN[:4]}, TRAIN[0]: [label, *LABELS[TRAIN[0]][1:]]})
    assert problems(root) == [f"train_labels.txt:1: {TRAIN[0]}: the label {label!r} is not an integer from 0 to 40"]


def test_missing_and_doubled_label_lines(root):
    lines = [" ".join([id, *LABELS[id]]) for id in (TRAIN[1], TRAIN[2], TRAIN[1])] + [TRAIN[3]]
    (root / "train_labels.txt").write_text("\n".join(lines))
    assert problems(root) == [
        f"train_labels.txt: no line for {TRAIN[0]}",
        f"train_labels.txt:3: {TRAIN[1]} has a line already, line 1",
        f"train_labels.txt:4: {TRAIN[3]} has 0 labels for {len(LABELS[TRAIN[3]])} frames",
    ]


# -- feature files


def with_nan(tensor):
    tensor[3, 7], tensor[5, 0] = float("nan"), float("inf")
    return tensor


@pytest.mark.parametrize(
    ("ruin", "what"),
    [
        (with_nan, "NaN or infinity in 2 frames, the first is 3"),
        (torch.Tensor.double, "float64, strided, on cpu instead of a dense float32 tensor"),
        (torch.Tensor.half, "float16, strided, on cpu instead of a dense float32 tensor"),
        pytest.param(
            torch.Tensor.to_sparse,
            "float32, sparse_coo, on cpu instead of a dense float32 tensor",
            marks=pytest.mark.filterwarnings("ignore:Sparse invariant checks"),
        ),
        (lambda tensor: tensor.to("meta"), "float32, strided, on meta instead of a dense float32 tensor"),
        (torch.Tensor.flatten, "the shape [{n}] instead of [frames, 39]"),
        (lambda tensor: tensor[:, :13], "the shape [{frames}, 13] instead of [frames, 39]"),
        (lambda tensor: tensor[:0], "the shape [0, 39] instead of [frames, 39]"),
        (lambda tensor: {"x": tensor}, "holds a dict instead of a tensor"),
    ],
)
def test_a_tensor_that_is_not_features(root, ruin, what):
    tensor = features(TRAIN[0])
    what = what.format(n=tensor.numel(), frames=len(tensor))
    torch.save(ruin(tensor), feat(root))
    assert problems(root) == [f"feat/train/{TRAIN[0]}.pt: {what}"]


def test_files_that_cannot_be_read(root):
    missing, truncated, text, empty = (feat(root, id) for id in TRAIN[:4])
    missing.unlink()
    truncated.write_bytes(truncated.read_bytes()[:-1000])
    text.write_text("not a tensor")
    empty.write_bytes(b"")
    found = problems(root)
    assert [line.split(": ")[0] for line in found] == [f"feat/train/{id}.pt" for id in TRAIN[:4]]
    assert [line.split(": ")[1].split(" (")[0] for line in found] == [
        "no such file", "cannot be read", "not a plain tensor", "cannot be read",
    ]  # fmt: skip


def test_every_truncation_is_reported(root):
    whole = feat(root).read_bytes()
    for size in range(0, len(whole), 4999):
        feat(root).write_bytes(whole[:size])
        assert len(problems(root)) == 1, size


def test_a_folder_in_place_of_a_file(root):
    feat(root).unlink()
    feat(root).mkdir()
    assert problems(root)[0].startswith(f"feat/train/{TRAIN[0]}.pt: cannot be read")


class Bomb:
    """A pickle of this runs a command when it is loaded without care."""

    def __init__(self, fuse: Path):
        self.fuse = fuse

    def __reduce__(self):
        return os.mkdir, (str(self.fuse),)


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle", "swapped"])
def test_a_pickle_that_would_run_code_does_not(root, tmp_path, form):
    bomb = Bomb(tmp_path / "fuse")
    if form == "pickle":
        feat(root).write_bytes(pickle.dumps(bomb, protocol=2))
    elif form == "swapped":  # a real tensor file whose pickle was exchanged
        with zipfile.ZipFile(feat(root), "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(bomb, protocol=2))
            archive.writestr("archive/version", "3\n")
    else:
        torch.save(bomb, feat(root), _use_new_zipfile_serialization=form == "zip")
    what = "not a plain tensor: a damaged file, or one that would run code when loaded"
    assert problems(root) == [f"feat/train/{TRAIN[0]}.pt: {what}"]
    assert not bomb.fuse.exists()


def test_everything_wrong_with_an_utterance_is_told(root):
    torch.save(features(TRAIN[0])[:, :5], feat(root))
    write_labels(root, {id: LABELS[id] for id in TRAIN[1:4]})
    assert [problem.file for problem in read(root)[0]] == [f"feat/train/{TRAIN[0]}.pt", "train_labels.txt"]
    assert all(isinstance(problem, Problem) and problem.hint for problem in read(root)[0])


def test_other_widths(root):
    for id in TRAIN[:4]:
        torch.save(features(id)[:, :13].clone(), feat(root, id))
    assert read(root, coeffs=13)[0].features.shape[1] == 13
