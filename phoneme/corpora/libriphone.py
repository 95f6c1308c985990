"""The 2022 and 2023 homework: a tensor file for each utterance, labels in one text file.

    train_split.txt, test_split.txt   one utterance id a line
    train_labels.txt                  `id label label …`, one label a frame, in an order of its own
    feat/{train,test}/ID.pt           a bare float32 tensor [frame, 39]
    phones.txt                        optional, `index name`: what the classes are called

Files are joined by id; an utterance is read and checked by itself.
"""

import pickle
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from phoneme.corpora.base import Problem, SpeakerPattern, Utterance, find_folder, is_name, numbered_lines
from phoneme.errors import InputError
from phoneme.phones import read_table, unnamed

CLASSES = 41  # of the course's data, which states no names for them
LABELS = "train_labels.txt"

# hints
SAVE_AGAIN = "copy the .pt file again from the original archive, or write it with torch.save(tensor, path)"
ARCHIVE = "the homework's archive has train_split.txt, train_labels.txt and test_split.txt beside feat/"
ONE_NAME = "each line of a split file is the name of one .pt file, without folder and without `.pt`"
NO_LINKS = "put the .pt file itself into the feature folder"
LISTED_ONCE = "list each utterance once"
LABEL_LINE = f"{LABELS} has one line for each utterance: its id, then one label for each frame"
LABEL_RANGE = "the classes are 0 to 40 in the homework; a phones.txt in the folder changes that"

LabelLines = dict[str, list[tuple[int, str]]]  # id -> every (line number, labels) that the file has for it


class LibriPhone:
    """A homework-format folder.

    Args:
        root: the folder, or one that holds it as `libriphone/`.
        speaker_pattern: a regular expression; its first group, searched in an id, is the speaker.
        coeffs: the width of a frame; the homework has 13 MFCCs, their deltas and delta-deltas.

    Raises:
        InputError: no such folder, a bad pattern, or a bad `phones.txt`.
    """

    name = "libriphone"

    def __init__(self, root: str | Path, *, speaker_pattern: str = r"^([^-]+)-", coeffs: int = 39):
        self.root = find_folder(root, "libriphone", ("train_split.txt", "test_split.txt"))
        table = self.root / "phones.txt"
        self.phones = read_table(table) if table.exists() else unnamed(CLASSES)
        self.coeffs = coeffs
        self.source = "mfcc39" if coeffs == 39 else "columns"
        self.options = {"speaker_pattern": speaker_pattern, "coeffs": coeffs}
        self.speaker = SpeakerPattern(speaker_pattern)

    def has_split(self, split: str) -> bool:
        # one without the other is an error to be told, not a split that is not there
        return self._list(split).exists() or self._folder(split).exists()

    def files(self, split: str) -> list[Path]:
        labels = [self.root / LABELS] if split == "train" else []
        features = [self.features(split, id) for _, id in numbered_lines(self._list(split), ARCHIVE) if is_name(id)]
        return [self._list(split), self.root / "phones.txt", *labels, *features]

    def utterances(self, split: str) -> "LibriPhoneUtterances":
        listed = numbered_lines(self._list(split), ARCHIVE)
        if not listed:
            hint = f"list the files of {self._folder(split)} in it, without `.pt`"
            where = self._list(split)
            raise InputError(expected="one utterance id a line", got="an empty file", where=where, hint=hint)
        return LibriPhoneUtterances(self, split, listed, self._label_lines() if split == "train" else None)

    def features(self, split: str, id: str) -> Path:
        """Where the features of an utterance are."""
        return self._folder(split) / f"{id}.pt"

    def _label_lines(self) -> LabelLines:
        lines: LabelLines = {}
        for number, line in numbered_lines(self.root / LABELS, ARCHIVE):
            id, labels = [*line.split(maxsplit=1), ""][:2]
            lines.setdefault(id, []).append((number, labels))
        return lines

    def _list(self, split: str) -> Path:
        return self.root / f"{split}_split.txt"

    def _folder(self, split: str) -> Path:
        return self.root / "feat" / split


class LibriPhoneUtterances:
    """One split: each line of its list is an utterance, or a problem."""

    def __init__(self, corpus: LibriPhone, split: str, listed: list[tuple[int, str]], label_lines: LabelLines | None):
        self.corpus, self.split, self.listed, self.label_lines = corpus, split, listed, label_lines
        self.ids = tuple(id for _, id in listed)
        self.first_line = {id: number for number, id in reversed(listed)}
        self.code = {str(label): label for label in range(len(corpus.phones))}

    def read(self, position: int) -> Utterance | list[Problem]:
        number, id = self.listed[position]
        file = self.corpus.features(self.split, id)
        if wrong := self._check_line(number, id, file):
            return [wrong]
        features = _read_features(file, file.relative_to(self.corpus.root).as_posix(), self.corpus.coeffs)
        labels = None if self.label_lines is None else self._read_labels(id)
        problems = [answer for answer in (features, labels) if isinstance(answer, Problem)]
        if problems:
            return problems
        if labels is not None and len(labels) != len(features):
            line, _ = self.label_lines[id][0]
            what = f"{id} has {len(labels)} labels for {len(features)} frames"
            return [Problem(LABELS, line, what, LABEL_LINE)]
        return Utterance(id, self.corpus.speaker(id), features, labels)

    def _check_line(self, number: int, id: str, file: Path) -> Problem | None:
        if not is_name(id):
            what, hint = f"{id!r} is not the name of a file in feat/{self.split}/", ONE_NAME
        elif not file.resolve().is_relative_to(file.parent.resolve()):
            what, hint = f"{id!r} is a link that leaves feat/{self.split}/", NO_LINKS
        elif number != self.first_line[id]:
            what, hint = f"{id} is listed already in line {self.first_line[id]}", LISTED_ONCE
        else:
            return None
        return Problem(f"{self.split}_split.txt", number, what, hint)

    def _read_labels(self, id: str) -> UInt8[Tensor, "frame"] | Problem:
        match self.label_lines.get(id, []):
            case []:
                return Problem(LABELS, None, f"no line for {id}", LABEL_LINE)
            case [(line, text)]:
                labels = text.split()
            case [(first, _), (line, _), *_]:
                return Problem(LABELS, line, f"{id} has a line already, line {first}", LABEL_LINE)
        try:
            # the look-up turns a label's text into its class and checks it in one step
            return torch.from_numpy(np.fromiter(map(self.code.__getitem__, labels), np.uint8, len(labels)))
        except KeyError as error:
            known = f"an integer from 0 to {len(self.code) - 1}"
            return Problem(LABELS, line, f"{id}: the label {error.args[0]!r} is not {known}", LABEL_RANGE)


def _read_features(path: Path, file: str, coeffs: int) -> Float[Tensor, "frame coeff"] | Problem:
    """The tensor in a `.pt` file, or what is wrong with it. Never runs code from the file."""
    try:
        tensor = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        what = "no such file"
    except pickle.UnpicklingError:
        what = "not a plain tensor: a damaged file, or one that would run code when loaded"
    except Exception as error:  # a damaged file fails anywhere in the zip reader, the unpickler or torch
        first_line, *_ = str(error).split("\n")
        what = f"cannot be read ({type(error).__name__}: {first_line})"
    else:
        what = _complaint(tensor, coeffs)
    return tensor.detach() if what is None else Problem(file, None, what, SAVE_AGAIN)


def _complaint(tensor: object, coeffs: int) -> str | None:
    """Why something is not the features of an utterance, if it is not."""
    if not isinstance(tensor, Tensor):
        return f"holds a {type(tensor).__name__} instead of a tensor"
    if tensor.dtype != torch.float32 or tensor.layout != torch.strided or tensor.device.type != "cpu":
        kind = f"{tensor.dtype}, {tensor.layout}, on {tensor.device}".replace("torch.", "")
        return f"{kind} instead of a dense float32 tensor"
    if tensor.ndim != 2 or tensor.shape[1] != coeffs or len(tensor) == 0:
        return f"the shape {list(tensor.shape)} instead of [frames, {coeffs}]"
    bad = (~tensor.isfinite().all(dim=1)).nonzero()
    return f"NaN or infinity in {len(bad)} frames, the first is {int(bad[0])}" if len(bad) else None
