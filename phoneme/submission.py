"""The file that is handed in: `prediction.csv`, header `Id,Class`, one row a test frame, complete or not at all."""

import csv
import os
from pathlib import Path

from jaxtyping import UInt8
from torch import Tensor

from phoneme.errors import InputError

HEADER = ["Id", "Class"]


def write_submission(
    path: str | Path, classes: UInt8[Tensor, "frame"], n_frames: int, sample: str | Path | None = None
) -> Path:
    """Write `classes` in the order of the test split's frames.

    `n_frames` is the number of frames of the test split, `sample` the course's sample_submission.csv if there is one:
    the rows have to agree with both. The file appears whole under its name or not at all. Raises InputError.
    """
    path = Path(path)
    if len(classes) != n_frames:
        raise InputError(
            expected=f"{n_frames} predictions, one a test frame",
            got=len(classes),
            where=path,
            hint="every test frame needs a row: do not drop the last batch",
        )
    if sample is not None:
        check_sample(sample, n_frames)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(HEADER)
            writer.writerows(enumerate(classes.tolist()))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def check_sample(sample: str | Path, n_frames: int) -> None:
    """Raise InputError unless the course's sample file has `Id,Class` and the ids 0 … n_frames - 1."""
    sample = Path(sample).expanduser()
    with sample.open(newline="", encoding="utf-8-sig") as file:
        header, *rows = [*csv.reader(file)] or [[]]
    if header != HEADER:
        raise InputError(
            expected=",".join(HEADER),
            got=",".join(header) or "nothing",
            where=f"{sample}:1",
            hint="is this the course's sample_submission.csv?",
        )
    if len(rows) != n_frames:
        raise InputError(
            expected=f"{n_frames} rows, one a test frame",
            got=f"{len(rows)} rows",
            where=sample,
            hint="the test folder and the sample file belong to different years or are incomplete",
        )
    for line, row in enumerate(rows, start=2):
        if not row or row[0] != str(line - 2):
            raise InputError(
                expected=f"Id {line - 2}",
                got=",".join(row),
                where=f"{sample}:{line}",
                hint="ids run from 0 in the order of test_split.txt",
            )
