"""Recordings with alignments: real speech, and each kind of damage that such a folder can have."""

import json
import shutil

import pytest
import soundfile
import torch

from phoneme.columns import Features
from phoneme.corpora import Audio, Utterance, open_corpus
from phoneme.corpora.audio import TOLERANCE_FRAMES
from phoneme.errors import InputError
from phoneme.phones import arpabet41
from tests.folders import LABELS, SAMPLE, audio_folder, features

IDS = ("27-124992-0026", "27-124992-0046", "27-124992-0062")


@pytest.fixture
def root(tmp_path):
    return audio_folder(tmp_path / "speech")


def read(root, split="train", **options):
    utterances = Audio(root, **options).utterances(split)
    return [utterances.read(position) for position in range(len(utterances.ids))]


def problems(root, split="train", **options):
    return [str(problem) for answer in read(root, split, **options) if isinstance(answer, list) for problem in answer]


def change(root, number, edit):
    """Rewrite a line of the alignments; `edit` gets it as a dictionary and returns one, or a text."""
    path = root / "alignments.jsonl"
    lines = path.read_text().splitlines()
    edited = edit(json.loads(lines[number - 1]))
    lines[number - 1] = edited if isinstance(edited, str) else json.dumps(edited)
    path.write_text("\n".join(lines))


def last_ends(end):
    def edit(line):
        line["phones"][-1][1] = end
        return line

    return edit


def phone(place, value):
    def edit(line):
        line["phones"][place] = value
        return line

    return edit


def test_features_and_labels_are_those_of_the_homework(root):
    answers = read(root)
    assert tuple(answer.id for answer in answers) == IDS
    for answer in answers:
        assert answer.labels.tolist() == [int(label) for label in LABELS[answer.id]]
        torch.testing.assert_close(answer.features, features(answer.id), rtol=0, atol=1e-4)
        assert (answer.speaker, answer.copy_of) == ("27", None)


def test_the_classes_are_those_of_the_bundled_speech(root):
    assert Audio(root).phones.phones == open_corpus("libriphone", SAMPLE).phones.phones
    assert arpabet41().silence == {0}
    (root / "phones.txt").write_text("\n".join(f"{k} {name}" for k, name in enumerate(reversed(arpabet41().phones))))
    first = read(root)[0]
    assert first.labels.tolist() == [40 - int(label) for label in LABELS[first.id]]


@pytest.mark.parametrize(("bins", "normalise"), [(40, "auto"), (80, "none")])
def test_log_mel(root, bins, normalise):
    for answer in read(root, features=Features("logmel", normalise, bins=bins)):
        assert answer.features.shape == (len(LABELS[answer.id]), bins)
        assert (float(answer.features.mean(0).abs().max()) < 1e-5) == (normalise == "auto")


def test_copies_come_after_the_originals_and_know_them(root):
    answers = read(root, speeds=(0.9, 1.0, 1.1), noise_snr_db=20.0)
    assert [answer.id for answer in answers[:6]] == [*IDS, *(f"{id}-sp0.9" for id in IDS)]
    assert [answer.copy_of for answer in answers] == [None] * 3 + [*IDS] * 3
    original, slow, fast, noisy = answers[::3]
    assert len(slow.features) == pytest.approx(len(original.features) / 0.9, abs=4)
    assert len(fast.labels) == len(fast.features) < len(original.features)
    assert torch.equal(noisy.labels, original.labels) and not torch.equal(noisy.features, original.features)
    runs = [torch.unique_consecutive(answer.labels).tolist() for answer in (original, slow)]
    assert runs[0] == runs[1]  # no phone is lost when all become longer


def test_recordings_without_a_line_are_the_test_split(root):
    corpus = Audio(root)
    assert corpus.has_split("train") and not corpus.has_split("test")
    path = root / "alignments.jsonl"
    path.write_text("\n".join(path.read_text().splitlines()[:1]))
    shutil.copyfile(root / f"{IDS[0]}.flac", root / "my voice.flac")
    (root / "._hidden.flac").touch()
    answers = read(root, "test", speeds=[0.9, 1.0])
    assert [answer.id for answer in answers] == [*IDS[1:], "my voice"]
    assert all(answer.labels is None for answer in answers)
    assert [answer.speaker for answer in answers] == ["27", "27", None]
    path.unlink()
    assert [answer.id for answer in read(root, "test")] == [*IDS, "my voice"]
    assert not Audio(root).has_split("train")
    with pytest.raises(InputError, match=r"a text file, got FileNotFoundError[\s\S]*hint: without alignments"):
        read(root)


def test_wav_is_read_where_there_is_no_flac(root):
    samples, rate = soundfile.read(root / f"{IDS[0]}.flac", dtype="int16")
    soundfile.write(root / f"{IDS[0]}.wav", samples, rate)
    before = read(root)[0].features
    (root / f"{IDS[0]}.flac").unlink()
    assert torch.equal(read(root)[0].features, before)


def test_the_files_are_all_that_counts(root):
    names = {path.name for path in Audio(root).files("train")}
    assert names == {"alignments.jsonl", "phones.txt", *(f"{id}.flac" for id in IDS)}


@pytest.mark.parametrize(
    ("symbol", "name"),
    [("ah0", "AH"), ("AH1", "AH"), ("", "SIL"), ("sp", "SIL"), ("sil", "SIL"), ("spn", "SPN"), ("+NSN+", "SPN")],
)
def test_symbols_of_other_aligners(root, symbol, name):
    def edit(line):
        line["phones"][0][2] = symbol
        return line

    change(root, 1, edit)
    assert arpabet41().phones[int(read(root)[0].labels[0])] == name


@pytest.mark.parametrize("difference", [-TOLERANCE_FRAMES, -1, 0, 1, TOLERANCE_FRAMES])
def test_frames_at_the_end_are_reconciled(root, difference):
    frames = len(LABELS[IDS[0]])
    change(root, 1, last_ends(frames + difference))
    answer = read(root)[0]
    assert answer.labels.tolist() == [int(label) for label in LABELS[IDS[0]]]


# -- what is wrong


@pytest.mark.parametrize("difference", [-TOLERANCE_FRAMES - 1, TOLERANCE_FRAMES + 1, 10**15])
def test_an_alignment_of_another_recording(root, difference):
    frames = len(LABELS[IDS[0]])
    change(root, 1, last_ends(frames + difference))
    what = f"{IDS[0]}: the phones end at frame {frames + difference}, the recording has {frames} frames"
    assert problems(root) == [f"alignments.jsonl:1: {what}"]


@pytest.mark.parametrize("id", ["../../x", "..", ".", "a/b", "a\\b", "/etc/passwd", "two words", "nul\0", ""], ids=repr)
def test_an_id_that_is_not_a_file_name(root, id):
    change(root, 2, lambda line: line | {"id": id})
    assert problems(root) == [f"alignments.jsonl:2: {id!r} is not the name of a recording in the folder"]
    assert all(path.parent == root for path in Audio(root).files("train"))


def test_a_link_that_leaves_the_folder(root, tmp_path):
    shutil.move(root / f"{IDS[1]}.flac", tmp_path / "elsewhere.flac")
    (root / f"{IDS[1]}.flac").symlink_to(tmp_path / "elsewhere.flac")
    assert problems(root) == [f"alignments.jsonl:2: {IDS[1]!r} is a link that leaves the folder"]


@pytest.mark.parametrize("text", ['{"id": "x"', "[" * 100_000, "x", '{"id": ' + "9" * 5000 + "}"], ids=lambda t: t[:9])
def test_a_broken_line(root, text):
    change(root, 2, lambda line: text)
    (problem,) = problems(root)
    assert problem.startswith("alignments.jsonl:2: not JSON: ")


@pytest.mark.parametrize("content", [[], 3, {"id": 3, "phones": []}, {"id": "x"}, {"phones": []}], ids=repr)
def test_a_line_that_is_no_alignment(root, content):
    change(root, 2, lambda line: json.dumps(content))
    assert problems(root) == ["alignments.jsonl:2: not an object with an id and phones"]


def test_a_missing_and_a_broken_recording(root):
    (root / f"{IDS[0]}.flac").unlink()
    path = root / f"{IDS[1]}.flac"
    path.write_bytes(path.read_bytes()[:20_000])
    missing, broken = problems(root)
    assert missing == f"{IDS[0]}.flac: expected an audio file, got no such file"
    assert broken.startswith(f"{IDS[1]}.flac: expected a whole WAV or FLAC file, got ")


def test_an_unknown_symbol(root):
    change(root, 3, phone(0, [0, 23, "ǃ"]))
    assert problems(root) == [f"alignments.jsonl:3: {IDS[2]}: unknown phone symbol 'ǃ'"]


@pytest.mark.parametrize(
    "value", [[0, 0, "SIL"], [1, 5, "SIL"], [0.0, 5, "SIL"], [0, 5, 3], [0, 5], [5, 0, "SIL"], "SIL", None], ids=repr
)
def test_no_phone(root, value):
    change(root, 1, phone(0, value))
    assert problems(root) == [f"alignments.jsonl:1: {IDS[0]}: {json.dumps(value)} is no phone that begins at frame 0"]


def test_a_gap_between_phones(root):
    def edit(line):
        line["phones"][1][0] += 1
        return line

    change(root, 1, edit)
    (problem,) = problems(root)
    start = json.loads((root / "alignments.jsonl").read_text().splitlines()[0])["phones"][0][1]
    assert problem.endswith(f"is no phone that begins at frame {start}")


@pytest.mark.parametrize("phones", [[], {}, "SIL", None])
def test_no_phones(root, phones):
    change(root, 1, lambda line: line | {"phones": phones})
    assert problems(root) == [f"alignments.jsonl:1: {IDS[0]}: no list of phones"]


def test_a_recording_that_is_aligned_twice(root):
    change(root, 3, lambda line: line | {"id": IDS[0]})
    assert problems(root) == [f"alignments.jsonl:3: {IDS[0]} is aligned already in line 1"]


def test_a_recording_named_like_a_copy(root):
    change(root, 3, lambda line: line | {"id": f"{IDS[0]}-sp0.9"})
    shutil.move(root / f"{IDS[2]}.flac", root / f"{IDS[0]}-sp0.9.flac")
    assert problems(root) == []
    assert problems(root, speeds=[0.9, 1.0]) == [
        f"alignments.jsonl:1: {IDS[0]}-sp0.9 is a recording and the name of a copy"
    ]


def test_a_copy_too_short_for_a_window(root):
    samples, rate = soundfile.read(root / f"{IDS[0]}.flac", dtype="int16")
    soundfile.write(root / f"{IDS[0]}.flac", samples[8000:8600], rate)
    change(root, 1, lambda line: line | {"phones": [[0, 2, "SIL"]]})
    assert isinstance(read(root)[0], Utterance)
    (problem,) = problems(root, speeds=[1.0, 2.0])
    assert problem.startswith(f"{IDS[0]}.flac-sp2: expected at least one window of 400 samples")


def test_folders(root, tmp_path):
    with pytest.raises(InputError, match=r"a folder with recordings .*got no such folder[\s\S]*where: .*nowhere"):
        Audio(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"got neither\n  where: .*empty\n  hint: set data.root"):
        Audio(tmp_path / "empty")
    (root / "alignments.jsonl").write_text("\n\n")
    with pytest.raises(InputError, match=r"one alignment a line, got an empty file\n.*alignments.jsonl"):
        read(root)
