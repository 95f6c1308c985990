"""The Conformer over whole utterances: attention for what is far, convolution for what is near.

Ours, because torchaudio's has no positions, convolves over padding and normalises with it: what it says about an
utterance depends on what that is batched with.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from phoneme.errors import InputError
from phoneme.models.checks import check_at_least, check_kernel
from phoneme.models.masked import MaskedConv1d
from phoneme.models.norm import FrameNorm
from phoneme.models.sequence import SequenceModel

ROTARY_BASE = 10_000.0  # Su et al. 2021, "RoFormer", as Vaswani et al. 2017 for absolute positions


def rotate(heads: Float[Tensor, "batch head frame size"]) -> Float[Tensor, "batch head frame size"]:
    """Rotary positions (Su et al. 2021): turn pair i of frame t by the angle t * base^(-2 i / size).

    The product of two turned vectors depends on the distance of their frames only, not on where they stand: no
    utterance length is special. Pairs are (i, i + size / 2).
    """
    frames, size = heads.shape[-2:]
    wide = torch.promote_types(heads.dtype, torch.float32)
    rates = ROTARY_BASE ** (-torch.arange(0, size, 2, device=heads.device, dtype=wide) / size)
    angles = torch.arange(frames, device=heads.device, dtype=wide)[:, None] * rates  # [frame, size / 2]
    cosine, sine = angles.cos().to(heads.dtype), angles.sin().to(heads.dtype)
    first, second = heads.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=-1)


# Compiled on a CPU for batches of changing length it fails: PyTorch 2.11 takes the first batch's strides for the next.
attend = torch.compiler.disable(F.scaled_dot_product_attention)


class Attention(nn.Module):
    """Multi-head self-attention with rotary positions over the frames of the mask.

    No dropout on the weights of the attention: with it a CPU leaves its fused kernel, and a Conformer of 128 units
    trains half as fast.
    """

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, frames: Float[Tensor, "batch frame width"], mask: Bool[Tensor, "batch frame"]
    ) -> Float[Tensor, "batch frame width"]:
        batch, length, width = frames.shape
        projected = self.queries_keys_values(self.norm(frames)).view(batch, length, 3, self.heads, -1)
        queries, keys, values = projected.permute(2, 0, 3, 1, 4)  # each [batch, head, frame, size]
        attended = attend(
            rotate(queries),
            rotate(keys),
            values,
            attn_mask=mask[:, None, None, :],  # every frame looks at those of its utterance
        )
        return self.dropout(self.output(attended.transpose(1, 2).reshape(batch, length, width)))


class Convolution(nn.Module):
    """LayerNorm, a gate across the units, one filter a unit along the frames, norm, SiLU, back across the units."""

    def __init__(self, width: int, kernel: int, norm: str, dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.gate = nn.Linear(width, 2 * width)
        self.conv = MaskedConv1d(width, width, kernel, groups=width)
        self.conv_norm = FrameNorm(norm, width)
        self.activation = nn.SiLU()
        self.output = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, frames: Float[Tensor, "batch frame width"], mask: Bool[Tensor, "batch frame"]
    ) -> Float[Tensor, "batch frame width"]:
        gated = F.glu(self.gate(self.norm(frames)), dim=-1)
        return self.dropout(self.output(self.activation(self.conv_norm(self.conv(gated, mask), mask))))


def feed_forward(width: int, expansion: int, dropout: float) -> nn.Sequential:
    """LayerNorm, linear, SiLU, linear: each frame by itself."""
    hidden = expansion * width
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.Linear(width, hidden),
        nn.SiLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, width),
        nn.Dropout(dropout),
    )


class ConformerBlock(nn.Module):
    """Half a feed-forward step, attention, convolution, half a feed-forward step, LayerNorm (Gulati et al. 2020)."""

    def __init__(self, width: int, *, heads: int, expansion: int, kernel: int, norm: str, dropout: float):
        super().__init__()
        self.before = feed_forward(width, expansion, dropout)
        self.attention = Attention(width, heads, dropout)
        self.convolution = Convolution(width, kernel, norm, dropout)
        self.after = feed_forward(width, expansion, dropout)
        self.norm = nn.LayerNorm(width)

    def forward(
        self, frames: Float[Tensor, "batch frame width"], mask: Bool[Tensor, "batch frame"]
    ) -> Float[Tensor, "batch frame width"]:
        frames = frames + 0.5 * self.before(frames)
        frames = frames + self.attention(frames, mask)
        frames = frames + self.convolution(frames, mask)
        return self.norm(frames + 0.5 * self.after(frames))


class Conformer(SequenceModel):
    """A linear map to `width` units and `depth` Conformer blocks (Gulati et al. 2020, equation 1).

    Their positions are relative sinusoids; here they are rotary, which are relative as well and have no parameters.
    `norm` is that of the convolution (theirs is `batch`); the other norms are LayerNorm. `expansion` times `width` are
    the units inside a feed-forward step, `kernel` the frames of the convolution.

    Raises InputError, `where` naming the key, for a width that does not divide into heads of an even size, an even
    kernel, a depth, heads, expansion or width below 1, an unknown norm, a dropout outside [0, 1), and for a front end
    that `FrontEnd` refuses.
    """

    def __init__(
        self,
        *,
        coeffs: int,
        classes: int,
        width: int,
        depth: int,
        heads: int = 4,
        expansion: int = 4,
        kernel: int = 15,
        norm: str = "layer",
        dropout: float = 0.1,
        front_depth: int = 0,
        front_kernel: int = 5,
    ):
        check_at_least("depth", depth, 1, "a block has attention and a convolution")
        check_at_least("heads", heads, 1, "4 heads look at four things at once")
        check_at_least("expansion", expansion, 1, "4 is the paper's")
        check_kernel("kernel", kernel)
        if width % (2 * heads):
            raise InputError(
                expected=f"a multiple of {2 * heads}: {heads} heads of an even size",
                got=width,
                where="model.width",
                hint="rotary positions turn pairs of units; change model.width or model.heads",
            )
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
        self.input = nn.Linear(self.front_end.outputs, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            ConformerBlock(width, heads=heads, expansion=expansion, kernel=kernel, norm=norm, dropout=dropout)
            for _ in range(depth)
        )

    def encode(
        self, frames: Float[Tensor, "batch frame inputs"], mask: Bool[Tensor, "batch frame"]
    ) -> Float[Tensor, "batch frame width"]:
        hidden = self.dropout(self.input(frames))
        for block in self.blocks:
            hidden = block(hidden, mask)
        return hidden
