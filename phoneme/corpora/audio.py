"""Recordings with aligned phones: features are computed here, labels come from the times of the phones.

    ID.flac            one channel at 16 kHz (ID.wav is read, too)
    alignments.jsonl   a JSON object a line: {"id": ID, "spk": speaker, "phones": [[start, end, symbol, …], …], …}
    phones.txt         optional, `index name`: the classes; without it silence, noise and the 39 ARPAbet phones

Times are frames of 10 ms, end exclusive; a phone begins where the one before ends. What else a line or a phone holds
(text, words, scores) is not read. A recording without a line has no labels: those are the test split.

A training recording may also come as copies, at another speed or with noise (`phoneme/corpora/copies.py`).
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from phoneme.columns import COURSE, Features
from phoneme.corpora.base import Problem, SpeakerPattern, Utterance, is_name, numbered_lines
from phoneme.corpora.copies import ORIGINAL, Copy, copies, frames_of
from phoneme.errors import InputError
from phoneme.features import read_audio
from phoneme.phones import arpabet41, read_table

ALIGNMENTS = "alignments.jsonl"
SUFFIXES = (".flac", ".wav")
# An aligner that pads counts up to ceil(samples / 160) frames, three more than there are whole windows of 400 samples;
# one with longer windows counts fewer. Such a difference lies in the last 30 ms: cut, or the last phone goes on.
TOLERANCE_FRAMES = 3
# what aligners call silence and noise: Montreal's "", sil, sp, spn; Sphinx's SIL, +SPN+, +NSN+
ALIASES = {"": "SIL", "SP": "SIL", "<SIL>": "SIL", "+SPN+": "SPN", "+NSN+": "SPN", "<UNK>": "SPN"}

# hints
ONE_OBJECT = 'a line is one JSON object: {"id": "26-495-0000", "spk": "26", "phones": [[0, 23, "SIL"], …]}'
ONE_NAME = "an id is the name of one recording in the folder, without folder and without `.flac`"
NO_LINKS = "put the recording itself into the folder"
LISTED_ONCE = "align each recording once"
PHONE = "a phone is [start frame, end frame, symbol], from frame 0 on, each beginning where the one before ends"
SYMBOLS = "ARPAbet in either case, with or without stress; a phones.txt in the folder names other classes"
LENGTHS = "align this recording again, or check that the times are frames of 10 ms"


class Audio:
    """A folder of recordings.

    Args:
        root: the folder.
        features: which columns to compute.
        speeds: of the training recordings; 1.0 is the recording itself and has to be there.
        noise_snr_db: a copy of each training recording with white noise at this signal-to-noise ratio; None: none.
        speaker_pattern: finds the speaker in the id of a recording that no line names one for.

    Raises:
        InputError: no such folder, nothing in it, a bad setting, or a bad `phones.txt`.
    """

    name = "audio"
    source = "audio"

    def __init__(
        self,
        root: str | Path,
        *,
        features: Features = COURSE,
        speeds: list[float] | tuple[float, ...] = (1.0,),
        noise_snr_db: float | None = None,
        speaker_pattern: str = r"^([^-]+)-",
    ):
        self.root = Path(root).expanduser().resolve()
        if not (self.root / ALIGNMENTS).exists() and not self.recordings:
            raise InputError(
                expected=f"a folder with recordings ({' or '.join(SUFFIXES)}) and {ALIGNMENTS}",
                got="neither" if self.root.is_dir() else "no such folder",
                where=self.root,
                hint="set data.root to the folder that holds the recordings themselves",
            )
        table = self.root / "phones.txt"
        self.phones = read_table(table) if table.exists() else arpabet41()
        self.features, self.coeffs = features, features.coeffs
        self.copies = copies(speeds, noise_snr_db)
        self.speaker = SpeakerPattern(speaker_pattern)
        self.options = {
            "columns": [features.name, features.bins, features.normalise == "auto"],
            "copies": [copy.suffix for copy in self.copies],
            "speaker_pattern": speaker_pattern,
        }

    @cached_property
    def recordings(self) -> dict[str, Path]:
        """The recordings in the folder by id; the first of `SUFFIXES` where there are several of a name."""
        found = sorted(self.root.glob("[!.]*"), key=lambda path: (path.stem, path.suffix), reverse=True)
        return {path.stem: path for path in found if path.suffix in SUFFIXES}

    @cached_property
    def lines(self) -> "list[Line | Problem]":
        """The alignments, or what is wrong with a line."""
        hint = "without alignments recordings can be labelled by phoneme-predict only"
        return [_parse(number, text) for number, text in numbered_lines(self.root / ALIGNMENTS, hint)]

    def has_split(self, split: str) -> bool:
        return (self.root / ALIGNMENTS).exists() if split == "train" else bool(self._unaligned())

    def files(self, split: str) -> list[Path]:
        tables = [self.root / ALIGNMENTS, self.root / "phones.txt"]
        if split == "test":
            return [*tables, *(self.recordings[id] for id in self._unaligned())]
        ids = [line.id for line in self.lines if isinstance(line, Line) and is_name(line.id)]
        return [*tables, *(self.recordings.get(id, self.root / f"{id}{SUFFIXES[0]}") for id in ids)]

    def utterances(self, split: str) -> "AudioUtterances":
        if split == "test":
            return AudioUtterances(self, [Line(None, id, None, None) for id in self._unaligned()], (ORIGINAL,))
        if not self.lines:
            where = self.root / ALIGNMENTS
            raise InputError(expected="one alignment a line", got="an empty file", where=where, hint=ONE_OBJECT)
        return AudioUtterances(self, self.lines, self.copies)

    def _unaligned(self) -> list[str]:
        lines = self.lines if (self.root / ALIGNMENTS).exists() else []
        aligned = {line.id for line in lines if isinstance(line, Line)}
        return sorted(self.recordings.keys() - aligned)


@dataclass(frozen=True)
class Line:
    """A line of the alignments, its phones not yet checked; without number and phones a recording of the test split."""

    number: int | None
    id: str
    speaker: str | None
    phones: Any


def _parse(number: int, text: str) -> Line | Problem:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Problem(ALIGNMENTS, number, f"not JSON: {error}", ONE_OBJECT)
    if not isinstance(content, dict) or not isinstance(content.get("id"), str) or "phones" not in content:
        return Problem(ALIGNMENTS, number, "not an object with an id and phones", ONE_OBJECT)
    speaker = content.get("spk")
    return Line(number, content["id"], None if speaker is None else str(speaker), content["phones"])


class AudioUtterances:
    """One split: each line is an utterance, or a problem; then all of them again for each further copy."""

    def __init__(self, corpus: Audio, lines: list[Line | Problem], kinds: tuple[Copy, ...]):
        self.corpus = corpus
        self.wanted = [(line, kind) for kind in kinds for line in lines]
        self.ids = tuple(
            f"{ALIGNMENTS}:{line.line}" if isinstance(line, Problem) else line.id + kind.suffix
            for line, kind in self.wanted
        )
        self.first: dict[str, int | None] = {}
        for line in lines:
            if isinstance(line, Line):
                self.first.setdefault(line.id, line.number)
        self.code = {phone.upper(): code for code, phone in enumerate(corpus.phones.phones)}

    def read(self, position: int) -> Utterance | list[Problem]:
        line, kind = self.wanted[position]
        if isinstance(line, Problem):
            return [line]
        if wrong := self._check_line(line, kind):
            return [wrong]
        file = self.corpus.recordings.get(line.id, self.corpus.root / f"{line.id}{SUFFIXES[0]}")
        try:
            waveform, sample_rate = read_audio(file)
            own = self.corpus.features
            features = own.of_audio(kind.apply(waveform, line.id), sample_rate)
        except InputError as error:
            return [
                Problem(f"{file.name}{kind.suffix}", None, f"expected {error.expected}, got {error.got}", error.hint)
            ]
        labels = None
        if line.number is not None:
            labels = self._labels(line, frames_of(len(waveform)))
            if isinstance(labels, Problem):
                return [labels]
            labels = kind.labels(labels, len(features))
        speaker = line.speaker or self.corpus.speaker(line.id)
        return Utterance(line.id + kind.suffix, speaker, features, labels, None if kind is ORIGINAL else line.id)

    def _check_line(self, line: Line, kind: Copy) -> Problem | None:
        root = self.corpus.root
        if line.number is not None and not is_name(line.id):
            what, hint = f"{line.id!r} is not the name of a recording in the folder", ONE_NAME
        elif line.id in self.corpus.recordings and not self.corpus.recordings[line.id].resolve().is_relative_to(root):
            what, hint = f"{line.id!r} is a link that leaves the folder", NO_LINKS
        elif line.number != self.first[line.id]:
            what, hint = f"{line.id} is aligned already in line {self.first[line.id]}", LISTED_ONCE
        elif kind.suffix and line.id + kind.suffix in self.first:
            what, hint = f"{line.id + kind.suffix} is a recording and the name of a copy", "give it another name"
        else:
            return None
        return Problem(ALIGNMENTS, line.number, what, hint)

    def _labels(self, line: Line, frames: int) -> UInt8[Tensor, "frame"] | Problem:
        """The class of each of the recording's frames."""
        codes, lengths, end = [], [], 0
        if not isinstance(line.phones, list) or not line.phones:
            return Problem(ALIGNMENTS, line.number, f"{line.id}: no list of phones", PHONE)
        for phone in line.phones:
            match phone:
                case [int(start), int(stop), str(symbol), *_] if end == start < stop:
                    code, end = self._code(symbol), stop
                case _:
                    what = f"{line.id}: {json.dumps(phone)[:80]} is no phone that begins at frame {end}"
                    return Problem(ALIGNMENTS, line.number, what, PHONE)
            if code is None:
                return Problem(ALIGNMENTS, line.number, f"{line.id}: unknown phone symbol {symbol!r}", SYMBOLS)
            codes.append(code)
            lengths.append(stop - start)
        if abs(end - frames) > TOLERANCE_FRAMES:  # before anything of that length is made
            what = f"{line.id}: the phones end at frame {end}, the recording has {frames} frames"
            return Problem(ALIGNMENTS, line.number, what, LENGTHS)
        labels = np.repeat(np.array(codes, dtype=np.uint8), lengths)[:frames]
        return torch.from_numpy(np.pad(labels, (0, frames - len(labels)), mode="edge"))

    def _code(self, symbol: str) -> int | None:
        """The class of a phone's symbol: by its name, without stress (AH0), or as aligners call silence and noise."""
        name = symbol.upper()
        names = (name, name.rstrip("012"), ALIASES.get(name))
        return next((self.code[known] for known in names if known in self.code), None)
