"""How the entries of a gradient, and of the weights, are distributed in each layer."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from phoneme.gradients.norms import CACHED, Named, by_layer

BINS = 2048  # so fine that quantiles come from the counts: no sort
COUNTED = 2**24  # entries at once: torch counts in float32, which is exact up to here
# log10 |g|: from 4 decades below Adam's eps, where an entry moves nothing, to where no training survives.
# A bin is 1/128 of a decade: 1.8 %.
LOG_LOW, LOG_HIGH = -12.0, 4.0


@dataclass(frozen=True, eq=False)
class Histogram:
    """Counts in bins of equal width from `low` to `high`; on the CPU."""

    counts: Float[Tensor, "bin"]
    low: float
    high: float

    @property
    def edges(self) -> Float[Tensor, "edge"]:
        """One more than there are bins."""
        return torch.linspace(self.low, self.high, len(self.counts) + 1, dtype=torch.float64)

    def quantile(self, share: float) -> float:
        """At a share in (0, 1]. Linear within a bin, so exact to one bin; NaN where nothing was counted.

        >>> Histogram(torch.tensor([1.0, 2.0]), 0.0, 2.0).quantile(2 / 3)  # one below, and one of two in the second bin
        1.5
        """
        below = self.counts.double().cumsum(0)
        if below[-1] == 0:
            return torch.nan
        rank = share * below[-1]
        bin = int(torch.searchsorted(below, rank))
        into = 1 - (below[bin] - rank) / self.counts[bin]
        return self.low + float(bin + into) * (self.high - self.low) / len(self.counts)

    def coarse(self, bins: int) -> "Histogram":
        """The same counts in fewer bins, for a picture; `bins` has to divide their number."""
        return Histogram(self.counts.view(bins, -1).sum(dim=1), self.low, self.high)


def gradient_histograms(gradients: Named) -> dict[str, Histogram]:
    """Of log10 |g| by layer: zeros and all below 1e-12 are in the first bin, all above 1e4 in the last, NaN in none.

    It separates a layer whose gradient is small everywhere (the whole hill lies low: it vanishes) from one where most
    entries are 0 and few large (dead units: a spike in the first bin). One read of the device.
    """

    def logarithm(part: Tensor) -> Tensor:
        return part.abs().log10_().clamp_(LOG_LOW, LOG_HIGH)

    counts = {
        layer: sum(_count(tensor, logarithm, LOG_LOW, LOG_HIGH) for tensor in tensors)
        for layer, tensors in by_layer(gradients).items()
    }
    rows = torch.stack([row.to(next(iter(counts.values())).device) for row in counts.values()]).cpu()
    return {layer: Histogram(row, LOG_LOW, LOG_HIGH) for layer, row in zip(counts, rows, strict=True)}


def weight_histograms(parameters: Named) -> dict[str, Histogram]:
    """Of the parameters by layer, from the layer's smallest to its largest. One read of the device.

    Two hills, or a tail that grows from epoch to epoch, are weights that run away; a hill that stays as it was
    initialized is a layer that does not learn.
    """
    rows = {}
    for layer, tensors in by_layer(parameters).items():
        ends = [tensor.detach().float().aminmax() for tensor in tensors]
        low, high = torch.stack([e.min for e in ends]).min(), torch.stack([e.max for e in ends]).max()
        span = torch.where(high > low, high - low, 1.0)

        def share(part: Tensor, low: Tensor = low, span: Tensor = span) -> Tensor:
            return (part - low).div_(span).clamp_(0, 1)

        counts = sum(_count(tensor, share, 0.0, 1.0) for tensor in tensors)
        rows[layer] = torch.cat([counts, torch.stack([low, high]).to(counts.dtype)])
    stacked = torch.stack([row.to(next(iter(rows.values())).device) for row in rows.values()]).cpu()
    return {layer: Histogram(row[:-2], *row[-2:].tolist()) for layer, row in zip(rows, stacked, strict=True)}


def _count(tensor: Tensor, of: Callable[[Tensor], Tensor], low: float, high: float) -> Tensor:
    """Counts in float64 (on Apple's GPU, which has none, in float32) of what `of` makes of the entries, in pieces."""
    wide = torch.float32 if tensor.device.type == "mps" else torch.float64
    parts = tensor.detach().float().flatten().split(CACHED if tensor.device.type == "cpu" else COUNTED)
    return sum(torch.histc(of(part), BINS, low, high).to(wide) for part in parts)
