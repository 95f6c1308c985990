"""All frames of a split once, in one `[frame, coeff]` tensor, with the bounds of the utterances.

The store is built once and kept on disk, under a key made from the names, sizes and times of the corpus's
files: when they change it is built again. Opening it maps it into memory, which processes on one machine
share.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import joblib
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from tqdm import tqdm

from phoneme import cache
from phoneme.build import did_you_mean
from phoneme.corpora import SPLITS, Corpus, Problem, Utterance, Utterances
from phoneme.corpora.problems import account, judge
from phoneme.errors import InputError
from phoneme.features import Moments
from phoneme.phones import PhoneTable

log = logging.getLogger(__name__)

FORMAT = 2  # of the files on disk; a new number makes every old entry stale
FOLDER = ".phoneme-cache"
DTYPES = {"float32": torch.float32, "float16": torch.float16}
READ_AT_ONCE = 256  # utterances in memory before they are written: about 25 MB
READERS = 4  # see _read


@dataclass(frozen=True, eq=False)
class FrameStore:
    """Frames, labels and utterance bounds: utterance u is the frames `offsets[u]` to `offsets[u + 1] - 1`.

    `copies` are the utterances that were made from another one, by its id.
    """

    frames: Float[Tensor, "frame coeff"]
    labels: UInt8[Tensor, "frame"] | None
    offsets: Int64[Tensor, "utterance_plus_1"]
    ids: tuple[str, ...]
    speakers: tuple[str | None, ...]
    phones: PhoneTable
    copies: Mapping[str, str] = field(default_factory=dict)

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
                hint="a checkpoint's split belongs to the data it was trained on: check data.root",
            )
        return torch.tensor([self._rows[id] for id in ids], dtype=torch.int64)

    def frame_indices(self, rows: Int64[Tensor, "utterance"]) -> Int64[Tensor, "n"]:
        """The numbers of all frames of these utterances, one utterance after the other, on the CPU."""
        offsets, rows = self.offsets.cpu(), rows.cpu()
        lengths = offsets[rows + 1] - offsets[rows]
        starts_here = lengths.cumsum(0) - lengths
        # a frame's place in the answer becomes its number in the store by the shift of its utterance
        shift = (offsets[rows] - starts_here).repeat_interleave(lengths)
        return torch.arange(len(shift)) + shift

    def to(self, device: torch.device | str) -> "FrameStore":
        """The same store with its tensors on a device."""
        labels = None if self.labels is None else self.labels.to(device)
        frames, offsets = self.frames.to(device), self.offsets.to(device)
        return dataclasses.replace(self, frames=frames, labels=labels, offsets=offsets)

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
        cache_dir: where to keep it; None: `.phoneme-cache` in the corpus's folder, or the user's cache folder
            if that cannot be written.
        on_bad_utterance: "stop", or "drop" to leave out bad training utterances with a warning that counts
            them. A bad test utterance always stops: a submission needs every row.
        workers: threads that read; 0: four.
        progress: show a bar on a terminal.

    Raises:
        InputError: bad data (all that is wrong, in one message), a bad setting, or no cache can be written.
    """
    _check_word("split", split, SPLITS)
    _check_word("dtype", dtype, tuple(DTYPES))
    _check_word("on_bad_utterance", on_bad_utterance, ("stop", "drop"))

    def write(folder: Path) -> dict:
        return _write(corpus, split, dtype, workers, progress, folder)

    content, arrays = _find_or_build(corpus, split, split, dtype, cache_dir, on_bad_utterance, write)
    if dropped := content["dropped"]:
        log.warning("%s: dropped %d bad utterances, %d are left", corpus.root, dropped, len(content["ids"]))
    return FrameStore(
        frames=torch.from_numpy(arrays["frames"]),
        labels=torch.from_numpy(arrays["labels"]) if "labels" in arrays else None,
        offsets=torch.tensor([0, *content["lengths"]]).cumsum(0),
        ids=tuple(content["ids"]),
        speakers=tuple(content["speakers"]),
        phones=corpus.phones,
        copies=content["copies"],
    )


def find_statistics(
    corpus: Corpus,
    *,
    cache_dir: str | Path | None = None,
    on_bad_utterance: str = "stop",
    workers: int = 0,
    progress: bool = True,
) -> tuple[list[float], list[float]]:
    """Mean and deviation of each coefficient over the training split, without its copies; arguments as `open_store`.

    They are kept where the frames are. Raises InputError as `open_store` does.
    """
    _check_word("on_bad_utterance", on_bad_utterance, ("stop", "drop"))

    def measure(folder: Path) -> dict:
        moments, ids, problems = Moments(), [], []
        for answer in _read(corpus.utterances("train"), torch.float32, workers, progress):
            if isinstance(answer, list):
                problems.append(answer)
                continue
            ids.append(answer.id)
            if answer.copy_of is None:
                moments.add(answer.features)
        statistics = {"mean": moments.mean.tolist(), "deviation": moments.deviation.tolist()}
        return {"ids": ids, **account(problems), **statistics}

    content, _ = _find_or_build(corpus, "train", "statistics", "float64", cache_dir, on_bad_utterance, measure)
    return content["mean"], content["deviation"]


def _find_or_build(
    corpus: Corpus,
    split: str,
    what: str,
    dtype: str,
    cache_dir: str | Path | None,
    on_bad_utterance: str,
    write: Callable[[Path], dict],
) -> cache.Entry:
    """What `write` makes of a split, from the cache if that has it. Bad utterances raise InputError, or are dropped."""
    source = [str(corpus.root), dtype, corpus.options]  # an entry of the same source, but of older files, is replaced

    def fill(folder: Path) -> dict:
        content = {"source": source, **write(folder)}
        judge(content, corpus, split, on_bad_utterance)  # before the entry is kept
        return content

    content, arrays = cache.find_or_build(
        [Path(cache_dir).expanduser()] if cache_dir else [corpus.root / FOLDER, _user_folder()],
        f"{corpus.name}-{what}",
        _key(corpus, split, dtype),
        fill,
        is_stale=lambda other: other["source"] == source,
    )
    judge(content, corpus, split, on_bad_utterance)  # an entry may have been kept under "drop"
    return content, arrays


def _check_word(name: str, word: str, known: tuple[str, ...]) -> None:
    if word not in known:
        hint = did_you_mean(word, known)
        raise InputError(expected=" or ".join(known), got=repr(word), where=f"data.{name}", hint=hint)


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


def _write(corpus: Corpus, split: str, dtype: str, workers: int, progress: bool, folder: Path) -> dict:
    """Stream the utterances into `frames.npy` and `labels.npy`; the rest, in primitives, comes back."""
    utterances = corpus.utterances(split)
    ids, speakers, lengths, copies, problems = [], [], [], {}, []
    label_file = cache.ArrayWriter(folder / "labels.npy", "uint8") if split == "train" else nullcontext()
    with cache.ArrayWriter(folder / "frames.npy", dtype, (corpus.coeffs,)) as frames, label_file as labels:
        for answer in _read(utterances, DTYPES[dtype], workers, progress):
            if isinstance(answer, list):
                problems.append(answer)
                continue
            frames.append(answer.features.numpy())
            if labels:
                labels.append(answer.labels.numpy())
            ids.append(answer.id)
            speakers.append(answer.speaker)
            lengths.append(len(answer.features))
            if answer.copy_of is not None:
                copies[answer.id] = answer.copy_of
    return {"ids": ids, "speakers": speakers, "lengths": lengths, "copies": copies, **account(problems)}


def _read(
    utterances: Utterances, dtype: torch.dtype, workers: int, progress: bool
) -> Iterator[Utterance | list[Problem]]:
    """The answers of `utterances.read`, in order, a block at a time so that few are in memory at once.

    Threads, because what takes long is waiting for a slow disk. Measured with as many files as 2022 has on
    two cores: at 2 ms a file one thread takes 11.0 s, two 5.9, four 3.3, eight 4.4. From a warm local disk,
    bound by the interpreter, one takes 1.5 s, four 2.8; two processes, which import torch and pipe frames
    back, 6.5.
    """
    count = len(utterances.ids)
    bar = tqdm(total=count, desc="reading", unit="utterance", disable=None if progress else True)
    with bar, joblib.Parallel(n_jobs=workers or READERS, prefer="threads") as parallel:
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
        what = "a feature is beyond 65504, the largest float16"
        return [Problem(answer.id, None, what, "use data.dtype=float32")]
    return dataclasses.replace(answer, features=features)
