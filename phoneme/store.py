"""All frames of a split once, in one `[frame, coeff]` tensor, with the bounds of the utterances.

The store is built once and kept on disk. Its key is made from the names, sizes and times of the corpus's files, so that it
is built again when they change; opening it maps it into memory, where processes on one machine share it.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import joblib
import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from tqdm import tqdm

from phoneme import cache
from phoneme.corpora import SPLITS, Corpus, Problem, Utterance, Utterances
from phoneme.errors import InputError
from phoneme.phones import PhoneTable

log = logging.getLogger(__name__)

FORMAT = 1  # of the files on disk; a new number makes every old entry stale
FOLDER = ".phoneme-cache"
DTYPES = {"float32": torch.float32, "float16": torch.float16}
READ_AT_ONCE = 256  # utterances in memory before they are written: about 25 MB
SHOWN_PROBLEMS = 20

Entry = tuple[dict, dict[str, np.ndarray]]  # what the cache holds: lists and numbers, and arrays by name


@dataclass(frozen=True, eq=False)
class FrameStore:
    """Frames, labels and utterance bounds: utterance u is the frames `offsets[u]` to `offsets[u + 1] - 1`."""

    frames: Float[Tensor, "frame coeff"]
    labels: UInt8[Tensor, "frame"] | None
    offsets: Int64[Tensor, "utterance+1"]
    ids: tuple[str, ...]
    speakers: tuple[str | None, ...]
    phones: PhoneTable

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def n_frames(self) -> int:
        return len(self.frames)

    @property
    def coeffs(self) -> int:
        return self.frames.shape[1]

    @property
    def nbytes(self) -> int:
        """The memory that the tensors take, in bytes."""
        return sum(part.nbytes for part in (self.frames, self.labels, self.offsets) if part is not None)

    def rows_of(self, ids: Sequence[str]) -> Int64[Tensor, "utterance"]:
        """The positions of utterances, on the CPU. Raises InputError where there is no such utterance."""
        unknown = [id for id in ids if id not in self._rows]
        if unknown:
            raise InputError(
                expected="ids of utterances in this corpus",
                got=f"{len(unknown)} others, {unknown[0]!r} first",
                where="the split into training and validation",
                hint="a split that comes from a checkpoint belongs to the data it was trained on: check data.root",
            )
        return torch.tensor([self._rows[id] for id in ids], dtype=torch.int64)

    def frame_indices(self, rows: Int64[Tensor, "utterance"]) -> Int64[Tensor, "n"]:
        """The numbers of all frames of these utterances, one utterance after the other, on the CPU."""
        offsets, rows = self.offsets.cpu(), rows.cpu()
        lengths = offsets[rows + 1] - offsets[rows]
        ends = lengths.cumsum(0)
        # counting on through the output, an utterance's frames are off by its start here minus its start there
        return torch.arange(int(lengths.sum())) + (offsets[rows] - (ends - lengths)).repeat_interleave(
            lengths
        )

    def to(self, device: torch.device | str) -> "FrameStore":
        """The same store with its tensors on a device."""
        labels = None if self.labels is None else self.labels.to(device)
        return dataclasses.replace(
            self, frames=self.frames.to(device), labels=labels, offsets=self.offsets.to(device)
        )

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {id: row for row, id in enumerate(self.ids)}


def open_store(
    corpus: Corpus,
    split: str,
    *,
    dtype: str = "float32",
    cache_dir: str | Path | None = None,
    on_bad_utterance: str = "stop",
    workers: int = 0,
    progress: bool = True,
) -> FrameStore:
    """The frames of a split, from the cache if it has them.

    Args:
        split: "train" or "test".
        dtype: of the frames, "float32" or "float16".
        cache_dir: where to keep it; None: `.phoneme-cache` in the corpus's folder, or the user's cache folder if that
            cannot be written.
        on_bad_utterance: "stop", or "drop" to leave out bad training utterances with a warning that counts them. A bad
            test utterance always stops: a submission needs every row.
        workers: threads that read; 0: one a core.
        progress: show a bar on a terminal.

    Raises:
        InputError: the data is bad (all that is wrong, in one message), a setting is, or no cache folder can be written.
    """
    for name, value, known in (
        ("split", split, SPLITS),
        ("dtype", dtype, DTYPES),
        ("on_bad_utterance", on_bad_utterance, ("stop", "drop")),
    ):
        if value not in known:
            raise InputError(
                expected=" or ".join(known), got=repr(value), where=f"data.{name}", hint="one of these words"
            )
    drop = on_bad_utterance == "drop" and split == "train"

    def fill(folder: Path) -> dict:
        content = _write(corpus, split, dtype, workers, progress, folder)
        _refuse_bad(content, corpus, drop)  # before the entry is kept
        return content

    key = f"{corpus.name}-{split}-{_key(corpus, split, dtype)}"
    folders = [Path(cache_dir).expanduser()] if cache_dir else [corpus.root / FOLDER, _user_folder()]
    content, arrays = _find(folders, key) or _build(folders, key, fill)
    _refuse_bad(content, corpus, drop)  # it may have been built under "drop"
    if content["dropped"]:
        log.warning(
            "%s: dropped %d bad utterances, %d are left", corpus.root, content["dropped"], len(content["ids"])
        )
    return FrameStore(
        frames=torch.from_numpy(arrays["frames"]),
        labels=torch.from_numpy(arrays["labels"]) if "labels" in arrays else None,
        offsets=torch.tensor([0, *content["lengths"]]).cumsum(0),
        ids=tuple(content["ids"]),
        speakers=tuple(content["speakers"]),
        phones=corpus.phones,
    )


def _key(corpus: Corpus, split: str, dtype: str) -> str:
    """A hash of all that the content depends on."""
    files = []
    for path in corpus.files(split):
        name, found = path.relative_to(corpus.root).as_posix(), None
        with contextlib.suppress(OSError):  # a file that is not there has no size and time
            found = path.stat()
        files.append((name, found and found.st_size, found and found.st_mtime_ns))
    parts = [FORMAT, corpus.name, split, dtype, corpus.options, files]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _user_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "phoneme"


def _find(folders: list[Path], key: str) -> Entry | None:
    """The entry, from the first folder that has a good one. Needs no permission to write."""
    for folder in folders:
        with contextlib.suppress(OSError, cache.Damaged):
            return cache.load(folder / key)
    return None


def _build(folders: list[Path], key: str, fill: Callable[[Path], dict]) -> Entry:
    """A new entry in the first folder that can be written, unless another process makes it meanwhile."""
    failures = []
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with cache.locked(folder / f"{key.rpartition('-')[0]}.lock"):
                return _load_or_save(folder / key, fill)
        except OSError as error:
            log.info("cannot keep the frames in %s: %s", folder, error)
            failures.append(f"{folder} ({error.strerror or error})")
    raise InputError(
        expected="a folder to keep the frames in",
        got=f"an error from each: {', '.join(failures)}",
        where="data.cache_dir",
        hint="set data.cache_dir to a folder that can be written and has room (156 bytes a frame: 0.4 GB for 2022)",
    )


def _load_or_save(entry: Path, fill: Callable[[Path], dict]) -> Entry:
    try:
        return cache.load(entry)
    except FileNotFoundError:
        pass
    except cache.Damaged as damage:
        log.warning("the cache is damaged and is built again: %s", damage)
        cache.discard(entry)
    cache.save(entry, fill)
    content, arrays = cache.load(entry)
    source = content["source"]
    cache.sweep(
        entry.parent,
        f"{entry.name.rpartition('-')[0]}-*",
        keep=entry,
        is_stale=lambda c: c["source"] == source,
    )
    return content, arrays


def _write(corpus: Corpus, split: str, dtype: str, workers: int, progress: bool, folder: Path) -> dict:
    """Stream the utterances into `frames.npy` and `labels.npy`; what is not an array comes back."""
    utterances = corpus.utterances(split)
    ids, speakers, lengths, problems = [], [], [], []
    labels_file = cache.ArrayWriter(folder / "labels.npy", np.uint8) if split == "train" else None
    with (
        cache.ArrayWriter(folder / "frames.npy", dtype, (corpus.coeffs,)) as frames,
        labels_file or nullcontext(),
    ):
        for answer in _read(utterances, DTYPES[dtype], workers, progress):
            if isinstance(answer, list):
                problems.append(answer)
                continue
            frames.append(answer.features.numpy())
            if labels_file:
                labels_file.append(answer.labels.numpy())
            ids.append(answer.id)
            speakers.append(answer.speaker)
            lengths.append(len(answer.features))
    return {
        "source": [str(corpus.root), dtype],
        "ids": ids,
        "speakers": speakers,
        "lengths": lengths,
        "dropped": len(problems),
        "problems": [dataclasses.asdict(problem) for answer in problems for problem in answer],
    }


def _read(
    utterances: Utterances, dtype: torch.dtype, workers: int, progress: bool
) -> Iterator[Utterance | list[Problem]]:
    """The answers of `utterances.read`, in order, a block at a time so that few are in memory at once.

    Threads, not processes: a read is a fraction of a millisecond, and each process would first import torch.
    """
    count = len(utterances.ids)
    bar = tqdm(total=count, desc="reading", unit="utterance", disable=None if progress else True)
    with bar, joblib.Parallel(n_jobs=workers or joblib.cpu_count(), prefer="threads") as parallel:
        for start in range(0, count, READ_AT_ONCE):
            block = range(start, min(start + READ_AT_ONCE, count))
            yield from parallel(joblib.delayed(_read_as)(utterances, position, dtype) for position in block)
            bar.update(len(block))


def _read_as(utterances: Utterances, position: int, dtype: torch.dtype) -> Utterance | list[Problem]:
    answer = utterances.read(position)
    if isinstance(answer, list):
        return answer
    features = answer.features.to(dtype)
    if dtype == torch.float16 and not features.isfinite().all():
        return [
            Problem(
                answer.id, None, "a feature is beyond 65504, the largest float16", "use data.dtype=float32"
            )
        ]
    return dataclasses.replace(answer, features=features)


def _refuse_bad(content: dict, corpus: Corpus, drop: bool) -> None:
    """Raise InputError with all that is wrong, unless bad utterances are to be dropped and good ones are left."""
    problems = [Problem(**problem) for problem in content["problems"]]
    if not problems or (drop and content["ids"]):
        return
    shown = [f"\n    {problem}" for problem in problems[:SHOWN_PROBLEMS]]
    if len(problems) > SHOWN_PROBLEMS:
        shown.append(f"\n    ... and {len(problems) - SHOWN_PROBLEMS} more")
    hints = list(dict.fromkeys(problem.hint for problem in problems))
    raise InputError(
        expected=f"{len(content['ids']) + content['dropped']} good utterances",
        got=f"{content['dropped']} bad ones:{''.join(shown)}",
        where=corpus.root,
        hint=";\n    ".join(
            [*hints, "bad training utterances can be left out with data.on_bad_utterance=drop"]
        ),
    )
