"""Which columns a frame has (`features=NAME`) and how they are scaled (`features.normalise=HOW`): docs/features.md.

A corpus brings a frame's columns ready (the homework), or recordings. The same choice means the same numbers from both,
as far as the homework's own columns allow.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from phoneme.build import did_you_mean
from phoneme.errors import InputError
from phoneme.features import CEPSTRA, check_bins, deltas, log_mel, mfcc, normalise, scale, with_deltas

# the axes along which the 13 statics have deltas and delta-deltas
AXES = {"statics": (), "course": ("cepstral",), "time_deltas": ("time",), "both": ("cepstral", "time")}
LOG_MEL = "logmel"
NAMES = (*AXES, LOG_MEL)
NORMALISE = ("auto", "utterance", "speaker", "global", "none")
OVER_THE_UTTERANCE = ("auto", "utterance")  # the same scale from ready columns and from recordings


@dataclass(frozen=True)
class Features:
    """The choice of a frame's columns.

    Attributes:
        name: "statics", "course", "time_deltas", "both" or "logmel".
        normalise: over what each column gets mean 0 and deviation 1: "utterance", "speaker" (its utterances in the
            split), "global" (all training utterances) or "none"; "auto": columns that are computed here over the
            utterance, those that come ready stay as they are.
        bins: mel bins, of "logmel" only.
        source: what they were made from, a corpus's `source`; None before a corpus is open.
        mean, deviation: of each column, for "global"; None before they were measured.

    Raises:
        InputError: an unknown word, bins of something else than mel filters, or so many that filters are empty.
    """

    name: str = "course"
    normalise: str = "auto"
    bins: int | None = None
    source: str | None = None
    mean: tuple[float, ...] | None = None
    deviation: tuple[float, ...] | None = None

    def __post_init__(self):
        for key, word, known in (("name", self.name, NAMES), ("normalise", self.normalise, NORMALISE)):
            if word not in known:
                hint = did_you_mean(word, known)
                raise InputError(expected=" or ".join(known), got=repr(word), where=f"features.{key}", hint=hint)
        if (self.name == LOG_MEL) != (self.bins is not None):
            raise InputError(
                expected="a number of mel bins for logmel, and none for anything else",
                got=f"features.name={self.name} features.bins={self.bins}",
                where="features",
                hint="choose them together: features=logmel40, logmel80, or another name",
            )
        if self.bins is not None:
            check_bins(self.bins, where="features.bins")

    @property
    def coeffs(self) -> int:
        """The number of columns, where they are computed or taken from the homework's 39."""
        return self.bins or CEPSTRA * (1 + 2 * len(AXES[self.name]))

    def columns_of(self, coeffs: int) -> Bool[Tensor, "coefficient column"]:
        """Which of `coeffs` columns hold something of which coefficient (cepstral or mel).

        Deltas along time are each of one coefficient; those along the cepstral axis mix up to four neighbours on either
        side. Where a corpus does not say which column is what, each counts as a coefficient.

        >>> Features("time_deltas").columns_of(39).sum(dim=1).tolist() == [3] * 13
        True
        >>> Features("course").columns_of(39)[6].sum()  # 1 static, 4 deltas, 9 delta-deltas
        tensor(14)
        """
        if self.name == LOG_MEL or self.source == "columns":
            return torch.eye(coeffs, dtype=torch.bool)
        statics = torch.eye(CEPSTRA)
        parts = [statics]
        for axis in AXES[self.name]:
            first = deltas(statics, axis) if axis == "cepstral" else statics
            parts += [first, deltas(first, axis) if axis == "cepstral" else statics]
        return torch.cat(parts, dim=1).abs() > 1e-6  # an exact 0 but for rounding

    def __str__(self) -> str:
        """For messages: without the numbers of `mean` and `deviation`."""
        return f"{self.name}{self.bins or ''} (normalise={self.normalise})"

    def to_dict(self) -> dict[str, Any]:
        """Primitives only, for a checkpoint."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Features":
        """The inverse of `to_dict`."""
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in content.items()})

    def measured(self, mean: list[float], deviation: list[float]) -> "Features":
        """The same with the statistics of normalise=global."""
        return replace(self, mean=tuple(mean), deviation=tuple(deviation))

    def of_columns(self, ready: Float[Tensor, "frame 39"]) -> Float[Tensor, "frame coeff"]:
        """The columns from the homework's: 13 statics, deltas, delta-deltas. New ones are computed from the statics."""
        statics, axes = ready[:, :CEPSTRA], AXES[self.name]
        kept = ready if "cepstral" in axes else statics
        if "time" not in axes:
            return kept
        first = deltas(statics, "time")
        new = torch.cat([first, deltas(first, "time")], dim=1)
        return torch.cat([kept, normalise(new) if self.normalise == "auto" else new], dim=1)

    def of_audio(self, waveform: Float[Tensor, "sample"], sample_rate: int) -> Float[Tensor, "frame coeff"]:
        """The columns from the samples of a recording. Raises InputError as `features.mfcc` and `normalise` do."""
        if self.name == LOG_MEL:
            columns = log_mel(waveform, sample_rate, bins=self.bins)
        else:
            columns = with_deltas(mfcc(waveform, sample_rate), AXES[self.name])
        return normalise(columns) if self.normalise == "auto" else columns

    def scaled(self, columns: Float[Tensor, "frame coeff"]) -> Float[Tensor, "frame coeff"]:
        """The columns as normalise=utterance or normalise=global has them, those of auto and none as they are."""
        if self.normalise == "utterance":
            return normalise(columns)
        if self.normalise == "global":
            assert self.mean is not None, "the statistics are measured before a store is built"
            tensors = (torch.tensor(part, dtype=torch.float64) for part in (self.mean, self.deviation))
            return scale(columns, *tensors)
        return columns


COURSE = Features()  # every corpus as it comes; recordings as the course has them
