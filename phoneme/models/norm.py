"""Normalization inside the network, by name.

Four act on the activations [batch, width] with a learned scale and shift (`batch`, `batch_renorm`, `layer`, `group`),
`rms` with a learned scale only, and two on the weights themselves (`weight`, `spectral`). `NORMS` has them all. A
single vector has no time axis, so `instance` has nothing to average over here, and is refused.

`FrameNorm` has the same ones over the frames of padded utterances, without those that act on the weights and with
`instance` (`FRAME_NORMS`): each frame is a vector of its own, and what is taken over frames leaves padding out.
"""

from collections.abc import Iterable
from types import MappingProxyType

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from phoneme.build import did_you_mean
from phoneme.errors import InputError
from phoneme.models.over_frames import BatchNorm, BatchRenorm, InstanceNorm, MaskedBatchNorm

UNITS_PER_GROUP = 16  # Wu & He 2018, "Group Normalization", table 3: the best of their fixed sizes

# Learned numbers each adds per unit of the layer it normalizes.
NORMS = MappingProxyType(
    {"none": 0, "batch": 2, "batch_renorm": 2, "layer": 2, "group": 2, "rms": 1, "weight": 1, "spectral": 0}
)

FRAME_NORMS = (*(kind for kind in NORMS if kind not in ("weight", "spectral")), "instance")

# What has to know which frames are real.
MASKED = MappingProxyType({"batch": MaskedBatchNorm, "batch_renorm": BatchRenorm, "instance": InstanceNorm})


def check_norm(kind: str, known: Iterable[str] = NORMS) -> None:
    """Raises InputError for a kind that is not among these: for an unknown one, and for one that has no place here."""
    if kind in known:
        return
    if kind == "instance":
        raise InputError(
            expected="a normalization of single vectors: " + ", ".join(NORMS),
            got=kind,
            where="model.norm",
            hint="a window's activations have no time axis to average over; model=tcn, gru, lstm, conformer have one",
        )
    if kind in NORMS:
        raise InputError(
            expected="a normalization of activations: " + ", ".join(FRAME_NORMS),
            got=kind,
            where="model.norm",
            hint="those that act on the weights are for model=mlp",
        )
    near = kind.removesuffix("norm")  # batchnorm is batch, not batch_renorm
    raise InputError(expected="a known normalization", got=kind, where="model.norm", hint=did_you_mean(near, known))


def width_multiple(kind: str) -> int:
    """What the width of a layer must be a multiple of."""
    return UNITS_PER_GROUP if kind == "group" else 1


def make_norm(kind: str, width: int) -> nn.Module:
    """What comes after the linear map: the identity for `none` and for those that act on the weights.

    - batch: over the batch, each unit by itself (Ioffe & Szegedy 2015)
    - batch_renorm: as batch, drawn towards the stored statistics (Ioffe 2017)
    - layer: over the units, each vector by itself (Ba et al. 2016)
    - group: as layer, in groups of `UNITS_PER_GROUP` units (Wu & He 2018)
    - rms: as layer, without the mean (Zhang & Sennrich 2019)

    Raises InputError for an unknown kind, for `instance`, and for a width that does not divide into groups.
    """
    check_norm(kind)
    if width % width_multiple(kind):
        raise InputError(
            expected=f"a multiple of {UNITS_PER_GROUP}",
            got=width,
            where="model.width",
            hint=f"a group has {UNITS_PER_GROUP} units; model.norm=layer takes any width",
        )
    if kind == "batch":
        return BatchNorm(width)
    if kind == "batch_renorm":
        return BatchRenorm(width)
    if kind == "layer":
        return nn.LayerNorm(width)
    if kind == "group":
        return nn.GroupNorm(width // UNITS_PER_GROUP, width)
    if kind == "rms":
        return RmsNorm(width)
    return nn.Identity()


class RmsNorm(nn.RMSNorm):
    """torch's in the precision of its weight: in bfloat16 it would add that format's epsilon, 0.008, to the square."""

    def forward(self, inputs: Float[Tensor, "*frame width"]) -> Float[Tensor, "*frame width"]:
        return super().forward(inputs.to(self.weight.dtype))


def make_linear(inputs: int, outputs: int, kind: str) -> nn.Linear:
    """A linear map, its weight W reparametrized for two of the kinds.

    - weight: each row w = g v / |v|, length and direction learned apart (Salimans & Kingma 2016)
    - spectral: W / sigma_max(W), by one power iteration a forward pass in training (Miyato et al. 2018)

    Raises InputError for an unknown kind, and for `instance`.
    """
    check_norm(kind)
    linear = nn.Linear(inputs, outputs)
    if kind == "weight":
        return parametrizations.weight_norm(linear)
    if kind == "spectral":
        return parametrizations.spectral_norm(linear)
    return linear


class FrameNorm(nn.Module):
    """`make_norm` over the frames of utterances, each a vector.

    `batch` and `batch_renorm` are over all frames of the mask, `instance` over those of each utterance (Ulyanov et al.
    2016, with a learned scale and shift): it does not depend on what an utterance is batched with, in training neither.

    Raises InputError for an unknown kind, for one that acts on the weights, and for a width that does not
    divide into groups.
    """

    def __init__(self, kind: str, width: int):
        super().__init__()
        check_norm(kind, FRAME_NORMS)
        self.norm = MASKED[kind](width) if kind in MASKED else make_norm(kind, width)
        self.masked = kind in MASKED

    def forward(
        self, frames: Float[Tensor, "*frame width"], mask: Bool[Tensor, "*frame"]
    ) -> Float[Tensor, "*frame width"]:
        if self.masked:
            return self.norm(frames, mask)
        return self.norm(frames.reshape(-1, frames.shape[-1])).view_as(frames)
