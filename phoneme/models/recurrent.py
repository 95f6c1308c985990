"""Bidirectional recurrent networks over whole utterances."""

from types import MappingProxyType

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from phoneme.build import did_you_mean
from phoneme.errors import InputError
from phoneme.models.checks import check_at_least
from phoneme.models.norm import FrameNorm
from phoneme.models.sequence import SequenceModel

CELLS = MappingProxyType({"gru": nn.GRU, "lstm": nn.LSTM})


def reversed_order(mask: Bool[Tensor, "batch frame"]) -> Int64[Tensor, "batch frame"]:
    """For each place the frame to read there, so that an utterance runs backwards and its padding stays behind it.

    >>> reversed_order(torch.tensor([[True, True, True, False]]))
    tensor([[2, 1, 0, 3]])
    """
    step = torch.arange(mask.shape[1], device=mask.device)
    return torch.where(mask, mask.sum(1, keepdim=True) - 1 - step, step)


def read(reader: nn.RNNBase, frames: Float[Tensor, "batch frame inputs"]) -> Float[Tensor, "batch frame outputs"]:
    """What the reader says at each frame, from zeros on.

    On CUDA, autocast gives cuDNN float16 even where bfloat16 is asked for (PyTorch 2.11, `AutocastRNN.cpp`), without
    the scaling of the loss that float16 needs. There the reader stays in float32.
    """
    if frames.is_cuda and torch.is_autocast_enabled("cuda") and torch.get_autocast_dtype("cuda") == torch.bfloat16:
        with torch.autocast("cuda", enabled=False):
            return reader(frames.float())[0]
    return reader(frames)[0]


class BothDirections(nn.Module):
    """One layer that reads each utterance from its first frame and from its own last one.

    What reads onwards has not seen the padding behind an utterance when it gives an answer. So the second reader gets
    the utterance turned round within its length (turning is its own inverse). PyTorch's packed sequences compute the
    same: on a CPU at a fifth of the speed (batch of 16, GRU) to a tenth (LSTM), and on a GPU they wait for the lengths.
    """

    def __init__(self, cell: str, inputs: int, width: int):
        super().__init__()
        self.onwards = CELLS[cell](inputs, width, batch_first=True)
        self.backwards = CELLS[cell](inputs, width, batch_first=True)

    def forward(
        self, frames: Float[Tensor, "batch frame inputs"], order: Int64[Tensor, "batch frame"]
    ) -> Float[Tensor, "batch frame twice_width"]:
        past = read(self.onwards, frames)
        future = read(self.backwards, _reordered(frames, order))
        return torch.cat([past, _reordered(future, order)], dim=-1)


def _reordered(
    frames: Float[Tensor, "batch frame width"], order: Int64[Tensor, "batch frame"]
) -> Float[Tensor, "batch frame width"]:
    return frames.gather(1, order[:, :, None].expand_as(frames))


class Recurrent(SequenceModel):
    """`depth` bidirectional layers of `width` units a direction, each followed by its norm and dropout.

    - gru: Cho et al. 2014
    - lstm: Hochreiter & Schmidhuber 1997; in both directions Graves & Schmidhuber 2005

    `masked=False` takes the padding for frames of the utterance, as most notebooks do: the reader from the end starts
    in zeros, a norm counts them, and an answer depends on the longest utterance of the batch. For comparison only.

    Raises InputError, `where` naming the key, for an unknown cell or norm, a depth or width below 1, a dropout outside
    [0, 1) or of an unknown kind, and for a front end that `FrontEnd` refuses.
    """

    def __init__(
        self,
        *,
        coeffs: int,
        classes: int,
        width: int,
        depth: int,
        cell: str = "gru",
        masked: bool = True,
        norm: str = "none",
        dropout: float = 0.0,
        dropout_kind: str = "frame",
        front_depth: int = 0,
        front_kernel: int = 5,
    ):
        if cell not in CELLS:
            raise InputError(expected="a known cell", got=cell, where="model.cell", hint=did_you_mean(cell, CELLS))
        check_at_least("depth", depth, 1, "one layer reads the utterance in both directions")
        super().__init__(
            coeffs=coeffs,
            classes=classes,
            width=width,
            encoded=2 * width,
            norm=norm,
            dropout=dropout,
            dropout_kind=dropout_kind,
            front_depth=front_depth,
            front_kernel=front_kernel,
        )
        inputs = [self.front_end.outputs] + [2 * width] * (depth - 1)
        self.layers = nn.ModuleList(BothDirections(cell, n, width) for n in inputs)
        self.norms = nn.ModuleList(FrameNorm(norm, 2 * width) for _ in inputs)
        self.masked = masked

    def mask_of(
        self, inputs: Float[Tensor, "batch frame coeff"], lengths: Int64[Tensor, "utterance"]
    ) -> Bool[Tensor, "batch frame"]:
        mask = super().mask_of(inputs, lengths)
        return mask if self.masked else torch.ones_like(mask)

    def encode(
        self, frames: Float[Tensor, "batch frame inputs"], mask: Bool[Tensor, "batch frame"]
    ) -> Float[Tensor, "batch frame encoded"]:
        order = reversed_order(mask)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            frames = self.dropout(norm(layer(frames, order), mask))
        return frames
