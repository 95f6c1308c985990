"""What a decoder or an ensemble is worth: right frames of one against another, with an interval over utterances."""

from dataclasses import dataclass

import torch
from jaxtyping import Int64, Integer
from torch import Tensor

from phoneme.errors import InputError

RESAMPLES = 2000  # of the bootstrap: the ends of a 95 % interval then vary by a few hundredths of its width
LEVEL = 0.95


@dataclass(frozen=True)
class Gain:
    """A difference of two accuracies on the same frames, and a bootstrap interval for it."""

    gain: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.gain:+.4f} (95 % interval {self.low:+.4f} to {self.high:+.4f})"


def right_frames(
    answer: Integer[Tensor, "frame"], labels: Integer[Tensor, "frame"], offsets: Int64[Tensor, "utterance_plus_1"]
) -> Int64[Tensor, "utterance"]:
    """How many frames of each utterance are labelled right."""
    until = torch.zeros(len(labels) + 1, dtype=torch.int64)
    until[1:] = (answer.cpu() == labels.cpu()).cumsum(0)
    return until[offsets.cpu()].diff()


def paired_gain(
    right: Int64[Tensor, "utterance"], baseline: Int64[Tensor, "utterance"], lengths: Int64[Tensor, "utterance"]
) -> Gain:
    """The difference of accuracies Σ (right - baseline) / Σ lengths, with its 95 % percentile interval.

    Frames of an utterance are wrong together, so whole utterances are drawn with replacement (`RESAMPLES` times, from a
    fixed seed), each with both answers: what is hard for both does not widen the interval (Bisani & Ney 2004). It does
    not contain the chance in the training of the networks.

    Raises InputError for fewer than two utterances, which would seem certain.
    """
    check_utterances(len(lengths))
    count, difference = len(lengths), (right - baseline).double()
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(count, (RESAMPLES, count), generator=generator)
    gains = difference[drawn].sum(dim=1) / lengths.double()[drawn].sum(dim=1)
    tail = (1 - LEVEL) / 2
    low, high = torch.quantile(gains, torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return Gain(float(difference.sum() / lengths.sum()), low, high)


def halves(utterances: int) -> tuple[Int64[Tensor, "a"], Int64[Tensor, "b"]]:
    """Two random halves of the utterances 0 … n - 1, always the same ones, for cross-fitting.

    What is chosen on one half is scored on the other: the score of a choice on the utterances it was chosen on is too
    good. Raises InputError for fewer than two utterances.
    """
    check_utterances(utterances)
    order = torch.randperm(utterances, generator=torch.Generator().manual_seed(0))
    middle = (utterances + 1) // 2
    return order[:middle].sort().values, order[middle:].sort().values


def check_utterances(count: int) -> None:
    """Raise InputError for fewer than two: nothing can be chosen on one and scored on another."""
    if count < 2:
        raise InputError(
            expected="at least 2 labelled utterances that were not trained on",
            got=count,
            where="the validation split of the checkpoints",
            hint="train with a larger data.split.val_fraction, or use decode=argmax ensemble.weights=equal",
        )
