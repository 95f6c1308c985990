"""What every sequence model shares: whole utterances in, one answer for each of their frames out.

Utterances come zero-padded to the longest of the batch. What a model says about one must not depend on its company:
nothing here and in the models reads a padded frame.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from phoneme.errors import InputError
from phoneme.models.checks import check_at_least, check_dropout, check_kernel
from phoneme.models.masked import MaskedConv1d, without_padding
from phoneme.models.norm import FrameNorm


class FrontEnd(nn.Module):
    """`depth` convolutions over `kernel` frames, each with its norm, ReLU and dropout, in front of a model.

    A model that steps or attends frame by frame gets short patterns (a burst, a glide) ready-made. The frames are not
    thinned out: each of them has a label. With depth 0 the frames pass through as they are.
    """

    def __init__(self, coeffs: int, width: int, *, depth: int, kernel: int, norm: str, dropout: float):
        super().__init__()
        check_at_least("front_depth", depth, 0, "0: no front end; 2 convolutions over 5 frames see 105 ms")
        check_kernel("front_kernel", kernel)
        self.outputs = width if depth else coeffs
        inputs = [coeffs] + [width] * (depth - 1)
        self.convs = nn.ModuleList(MaskedConv1d(n, width, kernel) for n in inputs[:depth])
        self.norms = nn.ModuleList(FrameNorm(norm, width) for _ in range(depth))
        self.activation, self.dropout = nn.ReLU(), nn.Dropout(dropout)

    def forward(
        self, frames: Float[Tensor, "batch frame coeff"], mask: Bool[Tensor, "batch frame"]
    ) -> Float[Tensor, "batch frame outputs"]:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            frames = self.dropout(self.activation(norm(conv(frames, mask), mask)))
        return frames


class SequenceModel(nn.Module, ABC):
    """Base of the models that label every frame of an utterance at once: front end, `encode`, one linear output.

    `encoded` is the number of units that `encode` gives a frame, `width` that of the front end.

    Raises InputError for a width below 1, a dropout outside [0, 1), and for what `FrontEnd` and the norm refuse.
    """

    unit: ClassVar[str] = "utterance"

    def __init__(
        self,
        *,
        coeffs: int,
        classes: int,
        width: int,
        encoded: int,
        norm: str,
        dropout: float,
        front_depth: int,
        front_kernel: int,
    ):
        super().__init__()
        check_at_least("width", width, 1, "128 units train in minutes on one CPU core")
        check_dropout(dropout)
        self.coeffs, self.classes = coeffs, classes
        self.front_end = FrontEnd(coeffs, width, depth=front_depth, kernel=front_kernel, norm=norm, dropout=dropout)
        self.output = nn.Linear(encoded, classes)

    def forward(
        self, inputs: Float[Tensor, "batch frame coeff"], lengths: Int64[Tensor, "batch"]
    ) -> Float[Tensor, "batch frame classes"]:
        """Logits of every frame; those of padded frames mean nothing. Raises InputError as `mask_of`."""
        mask = self.mask_of(inputs, lengths)
        frames = self.front_end(without_padding(inputs, mask), mask)
        return self.output(self.encode(frames, mask))

    @abstractmethod
    def encode(
        self, frames: Float[Tensor, "batch frame inputs"], mask: Bool[Tensor, "batch frame"]
    ) -> Float[Tensor, "batch frame encoded"]:
        """What the output layer reads, from what the front end gives."""

    def mask_of(
        self, inputs: Float[Tensor, "batch frame coeff"], lengths: Int64[Tensor, "utterance"]
    ) -> Bool[Tensor, "batch frame"]:
        """True for the frames of an utterance, False for its padding.

        Raises InputError for other coefficients than the model's, for another number of lengths than of utterances,
        and, where they are on the host, for lengths that the frames do not have (on a GPU looking would be a wait).
        """
        if inputs.shape[-1] != self.coeffs:
            raise InputError(
                expected=f"utterances of {self.coeffs} coefficients a frame",
                got=" x ".join(str(size) for size in inputs.shape),
                where=f"the input of {type(self).__name__}",
                hint="the axes are [batch, frame, coeff]; compare the features with those of the training",
            )
        if len(lengths) != len(inputs):
            raise InputError(
                expected=f"{len(inputs)} lengths, one an utterance",
                got=len(lengths),
                where=f"the lengths of {type(self).__name__}",
                hint="lengths [batch] are in frames, without the padding",
            )
        if lengths.device.type == "cpu" and not torch.compiler.is_compiling():
            _check_lengths(lengths, inputs.shape[1])
        step = torch.arange(inputs.shape[1], device=inputs.device)
        return step < lengths.to(inputs.device)[:, None]


def _check_lengths(lengths: Int64[Tensor, "batch"], frames: int) -> None:
    shortest, longest = int(lengths.min()), int(lengths.max())
    if shortest < 1 or longest > frames:
        raise InputError(
            expected=f"lengths from 1 to {frames}, the frames there are",
            got=f"{shortest} to {longest}",
            where="lengths",
            hint="an utterance without any frame has nothing to label: leave it out of the batch",
        )
