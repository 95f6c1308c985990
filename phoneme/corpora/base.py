"""What every corpus format gives: utterances, and an account of what is wrong with its files."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float, UInt8
from torch import Tensor

from phoneme.errors import InputError
from phoneme.phones import PhoneTable

SPLITS = ("train", "test")


@dataclass(frozen=True, eq=False)
class Utterance:
    """One recording: a feature vector every 10 ms and, for training, a class for each."""

    id: str
    speaker: str | None
    features: Float[Tensor, "frame coeff"]
    labels: UInt8[Tensor, "frame"] | None
    copy_of: str | None = None  # the id of the utterance that this one was made from, by another speed or noise


@dataclass(frozen=True)
class Problem:
    """Something wrong with the data; `file` is relative to the corpus's root, `line` counts from 1."""

    file: str
    line: int | None
    what: str
    hint: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.what}"


@runtime_checkable
class Utterances(Protocol):
    """The utterances of one split, in the order of the corpus. Several threads may call `read` at once."""

    ids: tuple[str, ...]

    def read(self, position: int) -> Utterance | list[Problem]:
        """The utterance `ids[position]`, checked, or all that is wrong with it. Never raises for bad data."""


@runtime_checkable
class Corpus(Protocol):
    """A folder of data in one format. Its content depends on its files, on `options`, and on nothing else.

    `source` says what a frame comes as: "mfcc39", the homework's 13 statics, deltas and delta-deltas; "columns" whose
    order is not known; "audio", from which the corpus computes the columns itself.
    """

    name: str
    root: Path
    phones: PhoneTable
    coeffs: int
    source: str
    options: dict[str, Any]

    def has_split(self, split: str) -> bool:
        """Whether the folder holds anything of "train" or "test"."""

    def files(self, split: str) -> list[Path]:
        """Every file that the split's content depends on, whether it exists or not; quick."""

    def utterances(self, split: str) -> Utterances:
        """The split, ready to be read. Raises InputError where a file of the whole split cannot be used."""


def find_folder(root: str | Path, nested: str, names: tuple[str, ...]) -> Path:
    """`root`, or `root/nested` (as archives unpack), whichever holds one of the files `names`.

    Raises:
        InputError: neither does.
    """
    root = Path(root).expanduser().resolve()
    for folder in (root, root / nested):
        if any((folder / name).exists() for name in names):
            return folder
    found = ", ".join(sorted(path.name for path in root.iterdir())[:10]) if root.is_dir() else "no such folder"
    raise InputError(
        expected=f"a folder with {' or '.join(names)} in it, or in {nested}/",
        got=found or "an empty folder",
        where=root,
        hint="set data.root to the folder that the homework's archive unpacks to",
    )


def is_name(id: str) -> bool:
    """Whether an id can only name a file directly in its folder."""
    return re.fullmatch(r"[^\s/\\\0]+", id) is not None and id not in (".", "..")


def numbered_lines(path: Path, hint: str) -> list[tuple[int, str]]:
    """The lines of a text file that are not blank, stripped (of Windows line ends too), numbered from 1.

    Raises:
        InputError: with this hint, where the file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        got = f"{type(error).__name__}: {error}"
        raise InputError(expected="a text file", got=got, where=path, hint=hint) from error
    return [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]


class SpeakerPattern:
    """A regular expression whose first group, searched in an id, is the speaker.

    Raises:
        InputError: no regular expression, or one without a group.
    """

    def __init__(self, pattern: str):
        try:
            self.pattern = re.compile(pattern)
            got = f"{pattern!r}, which has no group"
        except re.error as error:
            self.pattern, got = None, f"{pattern!r}: {error}"
        if self.pattern is None or self.pattern.groups == 0:
            hint = "the default is '^([^-]+)-': what stands before the first hyphen of an id"
            raise InputError(
                expected="a regular expression with a group, the speaker",
                got=got,
                where="data.speaker_pattern",
                hint=hint,
            )

    def __call__(self, id: str) -> str | None:
        """The speaker that an id names, if it names one."""
        found = self.pattern.search(id)
        return found[1] if found else None
