"""What the training labels say about phones: how frequent, how long, which follows which."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from phoneme.errors import InputError


@dataclass(frozen=True, eq=False)
class PhoneStatistics:
    """Counts over labelled utterances, and the smoothed probabilities an HMM needs.

    A *run* is a stretch of frames with one label, as long as it can be. `smoothing` is added to every count (Lidstone):
    what was never seen is improbable, not impossible.
    """

    frames: Int64[Tensor, "classes"]  # of each class
    first: Int64[Tensor, "classes"]  # utterances that begin with it
    follows: Int64[Tensor, "classes classes"]  # runs of the row's class with one of the column's after it
    run_classes: Int64[Tensor, "run"]
    run_lengths: Int64[Tensor, "run"]  # in frames
    smoothing: float

    @property
    def log_prior(self) -> Float[Tensor, "classes"]:
        """log P(class of a frame)."""
        return _log_share(self.frames, self.smoothing)

    @property
    def log_first(self) -> Float[Tensor, "classes"]:
        """log P(class of an utterance's first frame)."""
        return _log_share(self.first, self.smoothing)

    def log_stay(self, minimum: int) -> Float[Tensor, "classes"]:
        """log P(one frame more | the phone has lasted `minimum` frames or longer): the maximum of the likelihood.

        Beyond `minimum` the length is geometric. Each of a run's `length - minimum` further frames is one decision to
        stay, each run with another one after it one decision to leave.
        """
        return self._stay_or_leave(minimum)[0]

    def log_move(self, minimum: int) -> Float[Tensor, "classes classes"]:
        """log P(leave, and go on with the column's class | the row's has lasted `minimum` frames or longer).

        A class does not follow itself: two runs of it would be one.
        """
        classes = len(self.frames)
        diagonal = torch.eye(classes, dtype=torch.bool)
        others = (self.follows + self.smoothing).double().masked_fill(diagonal, 0)
        share = others / others.sum(dim=1, keepdim=True) if classes > 1 else others
        return (self._stay_or_leave(minimum)[1][:, None] + share.log()).masked_fill(diagonal, -math.inf)

    def _stay_or_leave(self, minimum: int) -> tuple[Float[Tensor, "classes"], Float[Tensor, "classes"]]:
        beyond = (self.run_lengths - minimum).clamp_min(0).double()
        stays = torch.zeros(len(self.frames), dtype=torch.float64).index_add(0, self.run_classes, beyond)
        counts = torch.stack([stays, self.follows.sum(dim=1).double()]) + self.smoothing
        stay, leave = (counts / counts.sum(dim=0)).log()
        return stay, leave


def count_phones(
    labels: UInt8[Tensor, "frame"],
    offsets: Int64[Tensor, "utterance_plus_1"],
    classes: int,
    smoothing: float = 1.0,
) -> PhoneStatistics:
    """Count classes, runs and successions of the utterances `labels[offsets[u]:offsets[u + 1]]`.

    A smoothing of 1 is Laplace's. Raises InputError for one that is not positive, and without any label.
    """
    if not smoothing > 0:
        raise InputError(
            expected="a positive number",
            got=smoothing,
            where="decode.smoothing",
            hint="it is added to every count, so that what was never seen stays possible",
        )
    if not len(labels):
        raise InputError(
            expected="labelled training utterances",
            got="none",
            where="the utterances to estimate the HMM from",
            hint="decode=median needs none",
        )
    labels, offsets = labels.cpu().long(), offsets.cpu()
    begins = torch.ones(len(labels), dtype=torch.bool)  # of runs
    begins[1:] = labels[1:] != labels[:-1]
    starts = offsets[:-1][offsets.diff() > 0]  # of utterances that have a frame
    begins[starts] = True
    places = begins.nonzero().flatten()
    run_classes = labels[places]
    pairs = torch.ones(len(places), dtype=torch.bool)  # a run with one before it in its utterance
    pairs[torch.searchsorted(places, starts)] = False
    after = pairs.nonzero().flatten()
    follows = torch.bincount(run_classes[after - 1] * classes + run_classes[after], minlength=classes**2)
    return PhoneStatistics(
        frames=torch.bincount(labels, minlength=classes),
        first=torch.bincount(labels[starts], minlength=classes),
        follows=follows.view(classes, classes),
        run_classes=run_classes,
        run_lengths=torch.cat([places, torch.tensor([len(labels)])]).diff(),
        smoothing=smoothing,
    )


def _log_share(counts: Int64[Tensor, "classes"], smoothing: float) -> Float[Tensor, "classes"]:
    counts = counts.double() + smoothing
    return (counts / counts.sum()).log()
