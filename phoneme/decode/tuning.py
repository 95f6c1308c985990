"""Settings of a decoder chosen on validation utterances, and what they are worth, without flattering the choice."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from tqdm import tqdm

from phoneme.decode.gain import Gain, halves, paired_gain, right_frames
from phoneme.decode.posteriors import argmax
from phoneme.errors import InputError


@dataclass(frozen=True)
class Tuned:
    """The setting that is best on all validation utterances; accuracies and gain are cross-fitted."""

    chosen: dict[str, float | int]
    chosen_on_halves: tuple[dict[str, float | int], dict[str, float | int]]
    tried: int
    utterances: int
    frames: int
    argmax_accuracy: float
    accuracy: float  # of each half with the setting that is best on the other
    gain: Gain  # of `accuracy` over `argmax_accuracy`

    def to_dict(self) -> dict[str, Any]:
        """Primitives, for JSON."""
        return asdict(self)


def tune(
    decode: Callable[..., UInt8[Tensor, "frame"]],
    grid: Mapping[str, Sequence[float | int]],
    log_posteriors: Float[Tensor, "frame classes"],
    labels: UInt8[Tensor, "frame"],
    offsets: Int64[Tensor, "utterance_plus_1"],
) -> Tuned:
    """Try `decode(log_posteriors, offsets, **setting)` for every setting of the grid; the most right frames win.

    The first of equals wins. To know what the choice is worth it is made again on each half of the utterances and
    scored on the other; the gain over argmax with its interval is from these scores. What is used in the end is chosen
    on all of them, so the reported gain is that of a choice on half as many utterances, if anything too small.

    Raises InputError for an empty grid, for fewer than two utterances, and what `decode` raises.
    """
    settings = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    if not settings:
        empty = next(name for name, values in grid.items() if not values)
        raise InputError(
            expected="at least one value to try",
            got="none",
            where=f"decode.{empty}",
            hint=f"one value is used as it is: decode.{empty}=[1]",
        )
    lengths, parts = offsets.diff().cpu(), halves(len(offsets) - 1)
    baseline = right_frames(argmax(log_posteriors, offsets), labels, offsets)
    right = torch.stack(  # [setting, utterance]
        [
            right_frames(decode(log_posteriors, offsets, **setting), labels, offsets)
            for setting in tqdm(settings, desc="tuning the decoder", unit="setting", leave=False, disable=None)
        ]
    )
    best = [int(right[:, part].sum(dim=1).argmax()) for part in parts]
    crossed = torch.empty_like(baseline)
    crossed[parts[0]], crossed[parts[1]] = right[best[1], parts[0]], right[best[0], parts[1]]
    frames = int(lengths.sum())
    return Tuned(
        chosen=settings[int(right.sum(dim=1).argmax())],
        chosen_on_halves=(settings[best[0]], settings[best[1]]),
        tried=len(settings),
        utterances=len(lengths),
        frames=frames,
        argmax_accuracy=int(baseline.sum()) / frames,
        accuracy=int(crossed.sum()) / frames,
        gain=paired_gain(crossed, baseline, lengths),
    )
