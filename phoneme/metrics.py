"""Framewise scores: accuracy and where it is lost, calibration, the confusion matrix.

All of them come from two small tables of integers that are summed over batches and processes. Integer sums
are exact in any order, so one process and eight give the same bits.
"""

from collections.abc import Set as AbstractSet
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Int64, Integer
from torch import Tensor
from torchmetrics import Metric

from phoneme.losses import IGNORE

# Confidence 1 in fixed point: exact for a float32 in [1/2, 1], a multiple of 2^-24; below, 2^-25 off at most.
ONE = 2**24


def at_boundary(
    labels: Integer[Tensor, " frame"], offsets: Int64[Tensor, " utterance_plus_1"]
) -> Bool[Tensor, " frame"]:
    """True where a frame's neighbour on either side, inside its utterance, has another label.

    Utterance u is `labels[offsets[u]:offsets[u + 1]]`. Every other frame is a phone's centre.

    >>> at_boundary(torch.tensor([7, 7, 7, 2, 2, 2, 9]), torch.tensor([0, 6, 7])).int()
    tensor([0, 0, 1, 1, 0, 0, 0], dtype=torch.int32)
    """
    # changes[t]: the label changes between frames t - 1 and t; both ends of an utterance are no change
    changes = torch.zeros(len(labels) + 1, dtype=torch.bool, device=labels.device)
    changes[1:-1] = labels[1:] != labels[:-1]
    changes[offsets] = False
    return changes[:-1] | changes[1:]


class MeanLoss(Metric):
    """The mean of a loss over frames, from the means over batches. A batch that is NaN makes it NaN.

    (torchmetrics' MeanMetric leaves NaN out, or with `nan_strategy="disable"` the weights.)
    """

    is_differentiable = False
    full_state_update = False
    total: Float[Tensor, ""]
    frames: Int64[Tensor, ""]

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("frames", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, loss: Float[Tensor, ""], targets: Int[Tensor, "..."]) -> None:
        """`loss` is the mean over the targets that are not IGNORE."""
        frames = (targets != IGNORE).sum()
        self.total = self.total + loss.detach().float() * frames
        self.frames = self.frames + frames

    def compute(self) -> Float[Tensor, ""]:
        """The mean; NaN over no frames."""
        return self.total / self.frames


class FrameMetrics(Metric):
    """Scores of framewise logits against labels, accumulated without waiting for the device.

    `compute()` gives five shares, each NaN where there is no frame to take it over (all is silence, say): a 0
    would claim that everything was wrong.

    - `accuracy`: over all labelled frames, the homework's score
    - `accuracy_without_silence`: over frames whose label is not in `silence`, which is the easy part
    - `accuracy_at_boundaries`, `accuracy_at_centres`: low at boundaries only, the labels' alignment or the
      context is to blame; low at centres too, the model confuses phones
    - `calibration_error`: sum over bins of (frames in bin / frames) |accuracy - mean confidence|, where
      confidence is the largest softmax probability and the `bins` bins have equal width, open below and
      closed above (Guo et al. 2017, with their 15). A confidence that is NaN counts as 0.

    Further arguments are torchmetrics' own: `sync_on_compute=False` where one process of several works alone.
    """

    is_differentiable = False
    full_state_update = False
    counts: Int64[Tensor, "place truth prediction"]
    calibration: Int64[Tensor, "bin tally"]

    def __init__(self, classes: int, silence: AbstractSet[int], bins: int = 15, **options: Any):
        super().__init__(**options)
        assert all(0 <= index < classes for index in silence), (classes, silence)
        self.classes, self.bins = classes, bins
        speech = torch.tensor([index not in silence for index in range(classes)])
        self.register_buffer("speech", speech, persistent=False)
        # [centre | boundary, truth, prediction] -> frames
        self.add_state("counts", torch.zeros(2, classes, classes, dtype=torch.long), dist_reduce_fx="sum")
        # [bin, (frames, correct, sum of confidences in units of 1 / ONE)]
        self.add_state("calibration", torch.zeros(bins, 3, dtype=torch.long), dist_reduce_fx="sum")

    def update(
        self,
        logits: Float[Tensor, "frame classes"],
        targets: Int[Tensor, " frame"],
        boundary: Bool[Tensor, " frame"],
    ) -> None:
        """Counts these frames. `boundary` is True at a phone boundary; a target of IGNORE does not count."""
        logits = logits.float()
        top, predicted = logits.max(dim=-1)
        confidence = (top - logits.logsumexp(dim=-1)).exp().nan_to_num(0.0)
        valid = targets != IGNORE
        # A frame without a label keeps its row, so that no shape depends on the data, and adds 0 somewhere.
        truth = targets.long().where(valid, 0)
        cells = (boundary.long() * self.classes + truth) * self.classes + predicted
        self.counts = self.counts.flatten().scatter_add(0, cells, valid.long()).view_as(self.counts)
        correct = valid & (predicted == truth)
        fixed_point = (confidence * ONE).round().long() * valid
        bin_of = ((confidence * self.bins).ceil().long() - 1).clamp(0, self.bins - 1)
        tallies = torch.stack([valid.long(), correct.long(), fixed_point], dim=1)  # [frame, tally]
        self.calibration = self.calibration.index_add(0, bin_of, tallies)

    def compute(self) -> dict[str, Tensor]:
        """The five shares, by name."""
        centres, boundaries = self.counts
        confusion = centres + boundaries
        frames, correct, confidence = self.calibration.unbind(dim=1)
        return {
            "accuracy": _accuracy(confusion),
            "accuracy_without_silence": _accuracy(confusion * self.speech[:, None]),
            "accuracy_at_boundaries": _accuracy(boundaries),
            "accuracy_at_centres": _accuracy(centres),
            "calibration_error": (correct * ONE - confidence).abs().sum() / (frames.sum() * ONE),
        }

    @property
    def confusion(self) -> Int64[Tensor, "truth prediction"]:
        """Frames by true class (rows) and predicted class (columns).

        With several processes, read it inside `with metric.sync_context():` on every one of them. Outside,
        each has only its own frames, and this fails instead of giving a part for the whole.
        """
        alone = not self.distributed_available_fn() or not self.sync_on_compute
        assert alone or self._is_synced, "read it inside metric.sync_context(), on every process"
        return self.counts.sum(dim=0)

    @property
    def recall(self) -> Float[Tensor, " truth"]:
        """Share of each class's frames that were recognised; NaN for a class without frames."""
        confusion = self.confusion
        return confusion.diagonal() / confusion.sum(dim=1)


def _accuracy(confusion: Int64[Tensor, "truth prediction"]) -> Float[Tensor, ""]:
    return confusion.diagonal().sum() / confusion.sum()
