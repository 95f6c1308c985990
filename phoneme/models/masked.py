"""Convolution over padded utterances that padding cannot enter."""

from jaxtyping import Bool, Float
from torch import Tensor, nn


def without_padding(
    frames: Float[Tensor, "batch frame width"], mask: Bool[Tensor, "batch frame"]
) -> Float[Tensor, "batch frame width"]:
    """The frames with 0 where the mask is off, whatever stood there."""
    return frames.masked_fill(~mask[:, :, None], 0.0)


class MaskedConv1d(nn.Module):
    """A convolution along the frames that keeps their number: an utterance is followed by zeros, as at its start.

    Without the mask the last frames of a short utterance would see what earlier layers made of its padding, and the
    answer would depend on the longest utterance of the batch. `groups=width` is the depthwise kind.
    `kernel` has to be odd: an even one has no centre.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, *, dilation: int = 1, groups: int = 1):
        super().__init__()
        reach = dilation * (kernel // 2)  # frames seen on each side
        self.conv = nn.Conv1d(inputs, outputs, kernel, padding=reach, dilation=dilation, groups=groups)

    def forward(
        self, frames: Float[Tensor, "batch frame inputs"], mask: Bool[Tensor, "batch frame"]
    ) -> Float[Tensor, "batch frame outputs"]:
        across = without_padding(frames, mask).transpose(1, 2)  # [batch, inputs, frame]
        return self.conv(across).transpose(1, 2)
