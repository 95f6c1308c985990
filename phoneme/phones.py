"""Phone tables: what the class numbers of a corpus mean.

TIMIT is labelled with 61 phones, is usually trained with 48 classes and scored with 39 (Lee & Hon 1989). The
LibriSpeech homework has 41 classes, whose names the course does not state: they are `unnamed(41)` unless the
folder brings a table of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from phoneme.errors import InputError

TABLES = Path(__file__).with_name("tables")
TIMIT_TABLE = TABLES / "timit.tsv"
MAX_CLASSES = 256  # labels are stored as uint8


@dataclass(frozen=True)
class PhoneTable:
    """The classes of a corpus, in order; `silence` holds the class numbers that count as silence."""

    name: str
    phones: tuple[str, ...]
    silence: frozenset[int]

    def __post_init__(self):
        assert 0 < len(self.phones) <= MAX_CLASSES, f"{len(self.phones)} classes"
        assert len(set(self.phones)) == len(self.phones), "two classes share a name"
        assert self.silence <= set(range(len(self.phones))), f"silence {set(self.silence)} is not a set of classes"

    def __len__(self) -> int:
        return len(self.phones)

    def to_dict(self) -> dict:
        """Primitives only, so that a checkpoint which holds it loads with `weights_only=True`."""
        return {"name": self.name, "phones": list(self.phones), "silence": sorted(self.silence)}

    @classmethod
    def from_dict(cls, table: Mapping) -> "PhoneTable":
        """The inverse of `to_dict`."""
        return cls(table["name"], tuple(table["phones"]), frozenset(table["silence"]))


def unnamed(n: int) -> PhoneTable:
    """`n` classes whose names nobody states. Class 0 is silence, at 17.4 % of the 2022 homework's frames."""
    return PhoneTable(f"unnamed{n}", tuple(f"class {k}" for k in range(n)), frozenset({0}))


@cache
def arpabet41() -> PhoneTable:
    """Silence, noise and the 39 phones of the CMU pronouncing dictionary, in the order of the bundled speech."""
    return read_table(TABLES / "arpabet41.txt")


def read_table(path: str | Path) -> PhoneTable:
    """A table from lines `index name`; the class named SIL (in either case) is silence.

    Raises:
        InputError: the file cannot be read, or does not name each class from 0 on exactly once.
    """
    path = Path(path)

    def refuse(got: str, where: object):
        hint = "write one class a line, `0 SIL`, `1 AA`, … (or remove the file: the classes then go unnamed)"
        return InputError(expected="a phone table with lines `index name`", got=got, where=where, hint=hint)

    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise refuse(str(error), path) from error
    names: dict[int, str] = {}
    for number, line in enumerate(lines, start=1):
        match line.split():
            case []:
                continue
            case [index, name] if index.isdecimal() and int(index) not in names and name not in names.values():
                names[int(index)] = name
            case _:
                raise refuse(repr(line), f"{path}:{number}")
    if sorted(names) != list(range(len(names))) or not 0 < len(names) <= MAX_CLASSES:
        raise refuse(f"{len(names)} classes that are not numbered 0, 1, 2, … (at most {MAX_CLASSES})", path)
    phones = tuple(names[index] for index in range(len(names)))
    return _table(path.stem, phones, {"sil"})


def _table(name: str, phones: tuple[str, ...], silent: set[str]) -> PhoneTable:
    return PhoneTable(name, phones, frozenset(k for k, phone in enumerate(phones) if phone.lower() in silent))


@cache
def _timit_rows() -> tuple[tuple[str, ...], ...]:
    """The lines of the TIMIT table: (name among 61, among 48, among 39)."""
    lines = TIMIT_TABLE.read_text(encoding="utf-8").splitlines()
    return tuple(tuple(line.split("\t")) for line in lines if not line.startswith("#"))[1:]


def _timit(column: int) -> PhoneTable:
    """One of the three sets; whatever the 39 classes call silence (closures and pauses too) is silence."""
    rows = _timit_rows()
    phones = tuple(dict.fromkeys(row[column] for row in rows if row[column] != "-"))
    return _table(f"timit{len(phones)}", phones, {row[column] for row in rows if row[2] == "sil"})


def timit61() -> PhoneTable:
    """The phones of TIMIT's own transcriptions."""
    return _timit(0)


def timit48() -> PhoneTable:
    """The classes that Lee & Hon train."""
    return _timit(1)


def timit39() -> PhoneTable:
    """The classes that Lee & Hon score, in the order of the 2021 homework: 0 iy … 38 sil."""
    return _timit(2)


def fold(source: PhoneTable, target: PhoneTable) -> tuple[int | None, ...]:
    """For each class of one TIMIT set its class in a coarser one; None for the glottal stop `q`.

    >>> table = fold(timit61(), timit39())
    >>> timit39().phones[table[timit61().phones.index("zh")]]
    'sh'
    """
    tables = [timit61(), timit48(), timit39()]
    column_of, column_to = tables.index(source), tables.index(target)
    assert column_of <= column_to, f"{source.name} is coarser than {target.name}"
    names = {row[column_of]: row[column_to] for row in _timit_rows()}
    classes = {phone: index for index, phone in enumerate(target.phones)}
    return tuple(classes.get(names[phone]) for phone in source.phones)
