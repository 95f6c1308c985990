"""What every corpus format gives: utterances, and an account of what is wrong with its files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

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
    """A folder of data in one format. Its content depends on its files, on `options`, and on nothing else."""

    name: str
    root: Path
    phones: PhoneTable
    coeffs: int
    options: dict[str, str | int]

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
