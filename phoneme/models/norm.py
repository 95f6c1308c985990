"""Normalization inside the network, by name.

Three act on the activations [batch, width] with a learned scale and shift (`batch`, `layer`, `group`), `rms`
with a learned scale only, and two on the weights themselves (`weight`, `spectral`). `NORMS` has them all.

A single vector has no time axis, so instance normalization has nothing to average over here.
"""

from types import MappingProxyType

from torch import nn
from torch.nn.utils import parametrizations

from phoneme.build import did_you_mean
from phoneme.errors import InputError

UNITS_PER_GROUP = 16  # Wu & He 2018, "Group Normalization", table 3: the best of their fixed sizes

# Learned numbers each adds per unit of the layer it normalizes.
NORMS = MappingProxyType({"none": 0, "batch": 2, "layer": 2, "group": 2, "rms": 1, "weight": 1, "spectral": 0})


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
