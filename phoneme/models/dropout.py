"""Dropout over the frames of utterances, by what one draw is for."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from phoneme.build import did_you_mean
from phoneme.errors import InputError

DROPOUT_KINDS = ("frame", "utterance")  # of units; a branch is dropped by `layer_drop`


def check_dropout_kind(kind: str) -> None:
    """Raises InputError for an unknown kind of dropout."""
    if kind not in DROPOUT_KINDS:
        hint = did_you_mean(kind, DROPOUT_KINDS)
        raise InputError(expected=" or ".join(DROPOUT_KINDS), got=kind, where="model.dropout_kind", hint=hint)


class FrameDropout(nn.Module):
    """In training sets to 0 with probability `share`, and divides what is left by 1 - share, drawing by `kind`:

    - frame: for each unit of each frame (Srivastava et al. 2014)
    - utterance: for each unit of an utterance, all frames alike. What varies from frame to frame averages out over the
      frames that the next layer reads; this does not (Gal & Ghahramani 2016, who mask recurrent connections as well)
    - branch: for an utterance, all of it. Added to what the branch was computed from, it lets the utterance skip the
      block ("stochastic depth", Huang et al. 2016, who draw for a batch); it is computed all the same

    It has no parameters: one may serve many layers.
    """

    def __init__(self, share: float, kind: str):
        super().__init__()
        assert kind in (*DROPOUT_KINDS, "branch"), kind
        self.share, self.kind = share, kind

    def forward(self, frames: Float[Tensor, "batch frame width"]) -> Float[Tensor, "batch frame width"]:
        if not self.training or self.share == 0:
            return frames
        if self.kind == "frame":
            return F.dropout(frames, self.share)
        if self.kind == "utterance":
            return F.dropout1d(frames.transpose(1, 2), self.share).transpose(1, 2)  # drops [frame] of [batch, width]
        return F.dropout2d(frames[:, None], self.share)[:, 0]  # drops [frame, width] of [batch, 1]

    def extra_repr(self) -> str:
        return f"{self.share}, {self.kind}"


def branch_shares(layer_drop: float, depth: int) -> list[float]:
    """How often block 1 … `depth` is skipped: in proportion to its number, the last with `layer_drop` (Huang et al.).

    >>> branch_shares(0.5, 4)
    [0.125, 0.25, 0.375, 0.5]
    """
    return [layer_drop * block / depth for block in range(1, depth + 1)]
