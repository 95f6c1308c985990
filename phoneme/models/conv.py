"""Dilated convolutions over whole utterances: a time-delay network with residual blocks."""

from jaxtyping import Bool, Float
from torch import Tensor, nn

from phoneme.models.checks import check_at_least, check_kernel
from phoneme.models.masked import MaskedConv1d
from phoneme.models.norm import FrameNorm
from phoneme.models.sequence import SequenceModel


class TcnBlock(nn.Module):
    """x + dropout(W relu(norm(conv(x)))), the convolution dilated, plain or (`separable`) one filter a unit."""

    def __init__(self, width: int, kernel: int, dilation: int, *, separable: bool, norm: str, dropout: float):
        super().__init__()
        groups = width if separable else 1
        self.conv = MaskedConv1d(width, width, kernel, dilation=dilation, groups=groups)
        self.norm = FrameNorm(norm, width)
        self.activation = nn.ReLU()
        self.linear = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, frames: Float[Tensor, "batch frame width"], mask: Bool[Tensor, "batch frame"]
    ) -> Float[Tensor, "batch frame width"]:
        hidden = self.activation(self.norm(self.conv(frames, mask), mask))
        return frames + self.dropout(self.linear(hidden))


class Tcn(SequenceModel):
    """A linear map to `width` units, then `depth` residual blocks whose dilations grow 1, 2, 4, … and start again.

    Time-delay networks are Waibel et al. 1989; residual blocks with growing dilation Bai et al. 2018, here looking to
    both sides. `cycle` is the number of blocks before the dilation is 1 again: with kernel 3 and cycle 4, eight blocks
    see 61 frames. `separable` splits a convolution into one along the frames and one across the units (Chollet 2017):
    fewer multiplications by about the kernel.

    Raises InputError, `where` naming the key, for an even kernel, a depth, cycle or width below 1, an unknown norm, a
    dropout outside [0, 1), and for a front end that `FrontEnd` refuses.
    """

    def __init__(
        self,
        *,
        coeffs: int,
        classes: int,
        width: int,
        depth: int,
        kernel: int = 3,
        cycle: int = 4,
        separable: bool = False,
        norm: str = "batch",
        dropout: float = 0.0,
        front_depth: int = 0,
        front_kernel: int = 5,
    ):
        check_at_least("depth", depth, 1, "each block widens what a frame sees")
        check_at_least("cycle", cycle, 1, "4 gives the dilations 1, 2, 4, 8")
        check_kernel("kernel", kernel)
        super().__init__(
            coeffs=coeffs,
            classes=classes,
            width=width,
            encoded=width,
            norm=norm,
            dropout=dropout,
            front_depth=front_depth,
            front_kernel=front_kernel,
        )
        dilations = [2 ** (block % cycle) for block in range(depth)]
        reach = (kernel - 1) * sum(dilations) + (front_kernel - 1) * front_depth
        self.receptive_field = 1 + reach  # frames on which one answer depends
        self.input = nn.Linear(self.front_end.outputs, width)
        self.blocks = nn.ModuleList(
            TcnBlock(width, kernel, dilation, separable=separable, norm=norm, dropout=dropout) for dilation in dilations
        )
        self.norm = FrameNorm(norm, width)
        self.activation = nn.ReLU()

    def encode(
        self, frames: Float[Tensor, "batch frame inputs"], mask: Bool[Tensor, "batch frame"]
    ) -> Float[Tensor, "batch frame width"]:
        hidden = self.input(frames)
        for block in self.blocks:
            hidden = block(hidden, mask)
        return self.activation(self.norm(hidden, mask))
