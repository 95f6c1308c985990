"""What an ensemble is worth: its members' scores, its own, the gain, and how far the members agree."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from phoneme.build import did_you_mean
from phoneme.decode.gain import Gain, halves, paired_gain, right_frames
from phoneme.decode.pool import combine, fit_weights
from phoneme.errors import InputError

WEIGHTS = ("equal", "fitted")


@dataclass(frozen=True)
class EnsembleScore:
    """On labelled utterances that no member was trained on; fitted weights are cross-fitted for the scores."""

    weights: list[float]
    weights_on_halves: list[list[float]] | None  # None where they are equal
    utterances: int
    frames: int
    member_accuracies: list[float]
    accuracy: float
    gain_over_best_member: Gain  # the member that is best on these utterances: it has an advantage
    gain_over_mean_member: Gain  # what is won over training one network

    def to_dict(self) -> dict[str, Any]:
        """Primitives, for JSON."""
        return asdict(self)


def check_weights(weights: str) -> None:
    """Raise InputError unless it is one of `WEIGHTS`."""
    if weights not in WEIGHTS:
        raise InputError(
            expected=" or ".join(WEIGHTS), got=weights, where="ensemble.weights", hint=did_you_mean(weights, WEIGHTS)
        )


def score_ensemble(
    members: Sequence[Float[Tensor, "frame classes"]],
    labels: UInt8[Tensor, "frame"],
    offsets: Int64[Tensor, "utterance_plus_1"],
    *,
    average: str,
    weights: str,
) -> tuple[EnsembleScore, Float[Tensor, "frame classes"]]:
    """Weights, accuracies and gains of an ensemble, and its log-posteriors for the same frames.

    `weights="fitted"`: by `fit_weights` on all utterances; for the scores, and in the log-posteriors that come back,
    each half of the utterances is combined with the weights of the other.

    Raises InputError for an unknown `average` or `weights`, a member whose rows are no log-posteriors, and fewer than
    two utterances.
    """
    check_weights(weights)
    equal = [1 / len(members)] * len(members)
    chosen, on_halves = equal, None
    if weights == "fitted":
        chosen = fit_weights(members, labels, average)
        frames_of = _frames_of_halves(offsets)
        on_halves = [fit_weights([m[part] for m in members], labels[part], average) for part in frames_of]
        pooled = torch.empty_like(members[0])
        for part, other in zip(frames_of, reversed(on_halves), strict=True):
            pooled[part] = combine((m[part] for m in members), other, average)
    else:
        pooled = combine(members, equal, average)
    lengths = offsets.diff()
    right = right_frames(pooled.argmax(dim=1), labels, offsets)
    by_member = torch.stack([right_frames(m.argmax(dim=1), labels, offsets) for m in members])  # [member, utterance]
    totals, count, frames = by_member.sum(dim=1), len(members), int(lengths.sum())
    score = EnsembleScore(
        weights=chosen,
        weights_on_halves=on_halves,
        utterances=len(lengths),
        frames=frames,
        member_accuracies=(totals.double() / frames).tolist(),
        accuracy=int(right.sum()) / frames,
        gain_over_best_member=paired_gain(right, by_member[int(totals.argmax())], lengths),
        gain_over_mean_member=paired_gain(count * right, by_member.sum(dim=0), count * lengths),
    )
    return score, pooled


def agreement(answers: Sequence[UInt8[Tensor, "frame"]]) -> list[list[float]]:
    """`[member][member]`: the share of frames that two members label alike. Little to gain where it is near 1."""
    return [[float((one == other).double().mean()) for other in answers] for one in answers]


def _frames_of_halves(offsets: Int64[Tensor, "utterance_plus_1"]) -> list[Int64[Tensor, "n"]]:
    """The frames of each half of the utterances."""
    utterance = torch.arange(len(offsets) - 1).repeat_interleave(offsets.diff())
    return [torch.isin(utterance, part).nonzero().flatten() for part in halves(len(offsets) - 1)]
