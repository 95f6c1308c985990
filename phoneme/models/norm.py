"""Normalization inside the network, by name.

Three act on the activations [batch, width] with a learned scale and shift (`batch`, `layer`, `group`), `rms`
with a learned scale only, and two on the weights themselves (`weight`, `spectral`). `NORMS` has them all.

A single vector has no time axis, so instance normalization has nothing to average over here.

`FrameNorm` has the same ones over the frames of padded utterances, without those that act on the weights: each frame is
a vector of its own, and `batch` takes its statistics over the real frames only.
"""

from types import MappingProxyType

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from phoneme.build import did_you_mean
from phoneme.errors import InputError

UNITS_PER_GROUP = 16  # Wu & He 2018, "Group Normalization", table 3: the best of their fixed sizes

# Learned numbers each adds per unit of the layer it normalizes.
NORMS = MappingProxyType({"none": 0, "batch": 2, "layer": 2, "group": 2, "rms": 1, "weight": 1, "spectral": 0})

FRAME_NORMS = tuple(kind for kind in NORMS if kind not in ("weight", "spectral"))


def check_norm(kind: str) -> None:
    """Raises InputError, listing the known kinds, for an unknown one."""
    if kind not in NORMS:
        raise InputError(expected="a known normalization", got=kind, where="model.norm", hint=did_you_mean(kind, NORMS))


def width_multiple(kind: str) -> int:
    """What the width of a layer must be a multiple of."""
    return UNITS_PER_GROUP if kind == "group" else 1


def make_norm(kind: str, width: int) -> nn.Module:
    """What comes after the linear map: the identity for `none` and for those that act on the weights.

    - batch: over the batch, each unit by itself (Ioffe & Szegedy 2015)
    - layer: over the units, each vector by itself (Ba et al. 2016)
    - group: as layer, in groups of `UNITS_PER_GROUP` units (Wu & He 2018)
    - rms: as layer, without the mean (Zhang & Sennrich 2019)

    Raises InputError for an unknown kind, and for a width that does not divide into groups.
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
        return nn.BatchNorm1d(width)
    if kind == "layer":
        return nn.LayerNorm(width)
    if kind == "group":
        return nn.GroupNorm(width // UNITS_PER_GROUP, width)
    if kind == "rms":
        return nn.RMSNorm(width)
    return nn.Identity()


def make_linear(inputs: int, outputs: int, kind: str) -> nn.Linear:
    """A linear map, its weight W reparametrized for two of the kinds.

    - weight: each row w = g v / |v|, length and direction learned apart (Salimans & Kingma 2016)
    - spectral: W / sigma_max(W), by one power iteration a forward pass in training (Miyato et al. 2018)

    Raises InputError for an unknown kind.
    """
    check_norm(kind)
    linear = nn.Linear(inputs, outputs)
    if kind == "weight":
        return parametrizations.weight_norm(linear)
    if kind == "spectral":
        return parametrizations.spectral_norm(linear)
    return linear


class MaskedBatchNorm(nn.BatchNorm1d):
    """Batch normalization (Ioffe & Szegedy 2015) whose statistics are over the frames of the mask.

    With padding among them the mean would be drawn towards 0, the more the lengths of a batch differ. On frames without
    padding it is `nn.BatchNorm1d`, whose parameters, buffers and evaluation it has. A single frame has no variance: its
    output is the shift, and the stored variance is left as it is. Sums are in float32 at least.
    """

    def forward(
        self, frames: Float[Tensor, "*frame width"], mask: Bool[Tensor, "*frame"]
    ) -> Float[Tensor, "*frame width"]:
        rows = frames.reshape(-1, self.num_features)
        if not self.training:
            mean, variance = self.running_mean, self.running_var
            normed = F.batch_norm(rows, mean, variance, self.weight, self.bias, eps=self.eps)
            return normed.view_as(frames)
        rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
        counted = mask.reshape(-1, 1)
        count = counted.sum().clamp(min=1)
        mean = rows.where(counted, 0.0).sum(0) / count
        centred = (rows - mean).where(counted, 0.0)
        variance = centred.square().sum(0) / count
        self._remember(mean.detach(), variance.detach(), count)
        normed = centred * ((variance + self.eps).rsqrt() * self.weight) + self.bias
        return normed.to(frames.dtype).view_as(frames)

    def _remember(self, mean: Float[Tensor, "width"], variance: Float[Tensor, "width"], count: Tensor) -> None:
        """Move the stored statistics by `momentum`; the variance without bias, as PyTorch stores it."""
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        unbiased = torch.where(count > 1, variance * count / (count - 1).clamp(min=1), self.running_var)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)


class FrameNorm(nn.Module):
    """`make_norm` over the frames of utterances: each frame a vector; `batch` over the frames of the mask.

    Raises InputError for an unknown kind, for one that acts on the weights, and for a width that does not
    divide into groups.
    """

    def __init__(self, kind: str, width: int):
        super().__init__()
        if kind in NORMS and kind not in FRAME_NORMS:
            raise InputError(
                expected="a normalization of activations: " + ", ".join(FRAME_NORMS),
                got=kind,
                where="model.norm",
                hint="those that act on the weights are for model=mlp",
            )
        self.norm = MaskedBatchNorm(width) if kind == "batch" else make_norm(kind, width)

    def forward(
        self, frames: Float[Tensor, "*frame width"], mask: Bool[Tensor, "*frame"]
    ) -> Float[Tensor, "*frame width"]:
        if isinstance(self.norm, MaskedBatchNorm):
            return self.norm(frames, mask)
        return self.norm(frames.reshape(-1, frames.shape[-1])).view_as(frames)
