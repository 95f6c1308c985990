"""The 2021 homework: rows of 11 frames, out of which the utterances are rebuilt.

    train_11.npy [row, 429] float32, train_label_11.npy [row] strings '0' … '38', test_11.npy [row, 429]

A row is one frame with its five neighbours on each side, 39 coefficients each: block k of row t is frame
t-5+k, and the label is the centre's. Successive rows of an utterance therefore share ten blocks. Row r + 1
continues row r if its blocks 0 … 9 are bit by bit the blocks 1 … 10 of row r; where that fails, an utterance
begins. Its frames are the centre blocks. So each frame is stored once instead of eleven times, any context
can be gathered, and a sequence model sees whole utterances. Rows keep their order: frame i of the test split
is row i of `prediction.csv`.
"""

import logging
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from phoneme.corpora.base import Problem, Utterance, find_folder
from phoneme.errors import InputError
from phoneme.phones import timit39

log = logging.getLogger(__name__)

COEFFS = 39
BLOCKS = 11
CENTRE = BLOCKS // 2
ROWS_AT_ONCE = 8192  # 14 MB
UNPACK_AGAIN = "copy the file again from the original archive timit_11"
LABEL_FILE = "train_label_11.npy"
EDGES = (
    "%s: in %d of %d utterances the first or last rows show frames that have no row of their own. "
    "They are lost: windows gathered there repeat the edge frame instead, unlike the rows of the file"
)


class Timit11:
    """The folder of the 2021 homework; `root` may also be the folder that holds it as `timit_11/`.

    Raises:
        InputError: no such folder.
    """

    name = "timit11"
    coeffs = COEFFS
    source = "columns"  # the course does not say which of the 39 are what

    def __init__(self, root: str | Path):
        self.root = find_folder(root, "timit_11", ("train_11.npy", "test_11.npy"))
        self.phones = timit39()
        self.options = {}

    def has_split(self, split: str) -> bool:
        return self.rows_file(split).exists()

    def files(self, split: str) -> list[Path]:
        return [self.rows_file(split), *([self.root / LABEL_FILE] if split == "train" else [])]

    def utterances(self, split: str) -> "Timit11Utterances":
        return Timit11Utterances(self, split)

    def rows_file(self, split: str) -> Path:
        """Where the windows of a split are."""
        return self.root / f"{split}_11.npy"


class Timit11Utterances:
    """One split. Opening it reads all rows once, to find where the utterances begin."""

    def __init__(self, corpus: Timit11, split: str):
        self.path = corpus.rows_file(split)
        n_rows = len(open_rows(self.path))
        self.labels = _open_labels(corpus.root / LABEL_FILE, n_rows) if split == "train" else None
        self.classes = len(corpus.phones)
        starts = find_starts(self.path)
        self.bounds = list(pairwise([*starts, n_rows]))
        self.ids = tuple(f"{split}-{position:05d}" for position in range(len(self.bounds)))
        other = sum(not _repeats_its_edges(self.path, start, stop) for start, stop in self.bounds)
        if other:
            log.warning(EDGES, self.path, other, len(self.bounds))

    def read(self, position: int) -> Utterance | list[Problem]:
        start, stop = self.bounds[position]
        features = np.array(open_rows(self.path)[start:stop, CENTRE * COEFFS : (CENTRE + 1) * COEFFS])
        problems = []
        if not np.isfinite(features).all():
            what = f"NaN or infinity in rows {start} to {stop - 1}"
            problems.append(Problem(self.path.name, None, what, UNPACK_AGAIN))
        labels = None if self.labels is None else self._read_labels(start, stop)
        if isinstance(labels, Problem):
            problems.append(labels)
        return problems or Utterance(self.ids[position], None, torch.from_numpy(features), labels)

    def _read_labels(self, start: int, stop: int) -> UInt8[Tensor, "frame"] | Problem:
        part = self.labels[start:stop]
        try:
            labels = part.astype(np.int64)  # the course has them as strings
        except ValueError as error:
            return Problem(LABEL_FILE, None, f"in rows {start} to {stop - 1}: {error}", UNPACK_AGAIN)
        outside = np.flatnonzero((labels < 0) | (labels >= self.classes))
        if len(outside):
            row = int(outside[0])
            what = f"row {start + row}: the label {labels[row]} is not one of 0 to {self.classes - 1}"
            return Problem(LABEL_FILE, None, what, UNPACK_AGAIN)
        return torch.from_numpy(labels.astype(np.uint8))


def open_rows(path: Path) -> np.ndarray:
    """The rows of a split as a new memory map.

    New for each use, because what was read through a map counts as this process's memory until it is closed.

    Raises:
        InputError: not an array of rows of 11 x 39 float32, or none at all.
    """
    rows = _open_array(path)
    if rows.ndim != 2 or rows.shape[1] != BLOCKS * COEFFS or rows.dtype != np.float32 or len(rows) == 0:
        got = f"{rows.dtype} {list(rows.shape)}"
        expected = f"float32 [rows, {BLOCKS * COEFFS}]"
        raise InputError(expected=expected, got=got, where=path, hint=UNPACK_AGAIN)
    return rows


def _open_labels(path: Path, n_rows: int) -> np.ndarray:
    labels = _open_array(path)
    if labels.shape != (n_rows,) or labels.dtype.kind not in "USiu":
        expected = f"{n_rows} labels, strings or integers: one for each row"
        raise InputError(expected=expected, got=f"{labels.dtype} {list(labels.shape)}", where=path, hint=UNPACK_AGAIN)
    return labels


def _open_array(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:  # a missing, a truncated or a pickled file
        got = f"{type(error).__name__}: {error}"
        raise InputError(
            expected="a .npy file of numbers or strings", got=got, where=path, hint=UNPACK_AGAIN
        ) from error


def find_starts(path: Path) -> list[int]:
    """The rows that do not continue the row before them: where the utterances begin."""
    n_rows = len(open_rows(path))
    starts = [0]
    for first in range(0, n_rows - 1, ROWS_AT_ONCE):
        rows = open_rows(path)[first : first + ROWS_AT_ONCE + 1].view(np.uint32)  # bits: NaN == NaN
        continues = (rows[:-1, COEFFS:] == rows[1:, :-COEFFS]).all(axis=1)
        starts += (first + 1 + np.flatnonzero(~continues)).tolist()
    return starts


def _repeats_its_edges(path: Path, start: int, stop: int) -> bool:
    """Whether the rows of an utterance show its first and last frame where it has no further neighbours.

    By the overlaps, gathering windows with clamped edges then gives back all its rows.
    """
    first, last = open_rows(path)[[start, stop - 1]].view(np.uint32).reshape(2, BLOCKS, COEFFS)
    return bool((first[:CENTRE] == first[CENTRE]).all() and (last[CENTRE + 1 :] == last[CENTRE]).all())
