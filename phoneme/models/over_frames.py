"""Normalizations whose statistics are over frames: of the batch, or of each utterance. Padding is left out of them."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from phoneme.errors import InputError

# Ioffe 2017, "Batch Renormalization", section 4: final limits, and the rate of the moving averages.
R_MAX, D_MAX, RENORM_MOMENTUM = 3.0, 5.0, 0.01
# Batches until the limits leave 1 and 0, and until d_max and r_max are reached: theirs (5,000, 25,000 and 40,000 of
# some 130,000 updates) over 50, because a run here has a few thousand.
HELD, D_FULL, R_FULL = 100, 500, 800


def check_batch(rows: Float[Tensor, "frame width"], norm: str) -> None:
    """Raises InputError for a single frame, from which nothing can be estimated."""
    if len(rows) == 1:
        raise InputError(
            expected="at least 2 frames in a batch, to estimate mean and deviation from",
            got=1,
            where=f"model.norm={norm}",
            hint="a larger data.batch_size, or model.norm=layer, which needs no batch",
        )


class BatchNorm(nn.BatchNorm1d):
    """PyTorch's batch normalization of single vectors. Raises InputError in training on one."""

    def forward(self, frames: Float[Tensor, "frame width"]) -> Float[Tensor, "frame width"]:
        if self.training:
            check_batch(frames, "batch")
        return super().forward(frames)


class MaskedBatchNorm(nn.BatchNorm1d):
    """Batch normalization (Ioffe & Szegedy 2015) whose statistics are over the frames of the mask.

    With padding among them the mean would be drawn towards 0, the more the lengths of a batch differ. On frames without
    padding it is `nn.BatchNorm1d`, whose parameters, buffers and evaluation it has. A single frame has no variance: its
    output is the shift, and the stored variance is left as it is. Sums are in float32 at least.
    """

    def forward(
        self, frames: Float[Tensor, "*frame width"], mask: Bool[Tensor, "*frame"]
    ) -> Float[Tensor, "*frame width"]:
        if not self.training:
            return self._evaluated(frames)
        rows = frames.reshape(-1, self.num_features)
        rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
        counted = mask.reshape(-1, 1)
        count = counted.sum().clamp(min=1)
        mean = rows.where(counted, 0.0).sum(0) / count
        centred = (rows - mean).where(counted, 0.0)
        variance = centred.square().sum(0) / count
        scale, shift = self._affine(mean.detach(), variance.detach())
        self._remember(mean.detach(), variance.detach(), count)
        normed = centred * ((variance + self.eps).rsqrt() * scale) + shift
        return normed.to(frames.dtype).view_as(frames)

    def _evaluated(self, frames: Float[Tensor, "*frame width"]) -> Float[Tensor, "*frame width"]:
        rows = frames.reshape(-1, self.num_features)
        normed = F.batch_norm(rows, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return normed.view_as(frames)

    def _affine(
        self, mean: Float[Tensor, "width"], variance: Float[Tensor, "width"]
    ) -> tuple[Float[Tensor, "width"], Float[Tensor, "width"]]:
        """What normalized frames are multiplied by, and what is added then."""
        return self.weight, self.bias

    def _remember(self, mean: Float[Tensor, "width"], variance: Float[Tensor, "width"], count: Tensor) -> None:
        """Move the stored statistics by `momentum`; the variance without bias, as PyTorch stores it."""
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        unbiased = torch.where(count > 1, variance * count / (count - 1).clamp(min=1), self.running_var)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)


class BatchRenorm(MaskedBatchNorm):
    """Batch renormalization (Ioffe 2017): in training nearly what evaluation will do, also with small batches.

        y = ((x - mu_B) / sigma_B r + d) gamma + beta
        r = sigma_B / sigma, clipped to [1 / r_max, r_max];  d = (mu_B - mu) / sigma, clipped to [-d_max, d_max]

    mu_B, sigma_B are of the batch, mu, sigma the stored ones; unclipped, y is (x - mu) / sigma gamma + beta. No
    gradient passes through r and d, so that gradients are those of batch normalization, scaled. The limits start at 1
    and 0, which is batch normalization, and open linearly (`HELD`, `D_FULL`, `R_FULL`) by the number of batches seen: a
    buffer, so that a resumed run goes on where it was. `warm_up=False` has them open from the start. Evaluation is
    batch normalization's.

    Raises InputError in training on one vector without a mask, where nothing can be estimated.
    """

    def __init__(self, width: int, *, r_max: float = R_MAX, d_max: float = D_MAX, warm_up: bool = True):
        super().__init__(width, momentum=RENORM_MOMENTUM)
        self.r_max, self.d_max, self.warm_up = r_max, d_max, warm_up

    def forward(
        self, frames: Float[Tensor, "*frame width"], mask: Bool[Tensor, "*frame"] | None = None
    ) -> Float[Tensor, "*frame width"]:
        if mask is not None:
            return super().forward(frames, mask)
        if not self.training:
            return self._evaluated(frames)
        rows = frames.reshape(-1, self.num_features)
        check_batch(rows, "batch_renorm")
        wide = rows.detach().to(torch.promote_types(rows.dtype, torch.float32))
        variance, mean = torch.var_mean(wide, dim=0, correction=0)
        scale, shift = self._affine(mean, variance)
        self._remember(mean, variance, torch.full((), len(rows), device=rows.device))
        return F.batch_norm(rows, None, None, scale, shift, training=True, eps=self.eps).view_as(frames)

    def _affine(
        self, mean: Float[Tensor, "width"], variance: Float[Tensor, "width"]
    ) -> tuple[Float[Tensor, "width"], Float[Tensor, "width"]]:
        """y = r gamma x^ + (d gamma + beta)."""
        r_max, d_max = self._limits()
        stored = (self.running_var + self.eps).sqrt()
        r = ((variance + self.eps).sqrt() / stored).clamp(1 / r_max, r_max)
        d = ((mean - self.running_mean) / stored).clamp(-d_max, d_max)
        return r * self.weight, d * self.weight + self.bias

    def _limits(self) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """r_max and d_max after the batches seen so far."""
        seen = self.num_batches_tracked.to(self.running_var.dtype)
        opened = [((seen - HELD) / (full - HELD)).clamp(0, 1) for full in (R_FULL, D_FULL)]
        r, d = opened if self.warm_up else [torch.ones_like(seen)] * 2
        return 1 + (self.r_max - 1) * r, self.d_max * d


class InstanceNorm(nn.Module):
    """Instance normalization (Ulyanov et al. 2016): each unit over the frames of its utterance, then scale and shift.

    Only frames of the mask count. An utterance of one frame has no variance: its output is the shift. Nothing is
    stored, evaluation does the same. Sums are in float32 at least.
    """

    def __init__(self, width: int, eps: float = 1e-5):  # eps: that of PyTorch's norms
        super().__init__()
        self.eps = eps
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(
        self, frames: Float[Tensor, "*utterance frame width"], mask: Bool[Tensor, "*utterance frame"]
    ) -> Float[Tensor, "*utterance frame width"]:
        rows = frames.to(torch.promote_types(frames.dtype, torch.float32))
        counted = mask[..., None]
        count = counted.sum(-2, keepdim=True).clamp(min=1)
        mean = rows.where(counted, 0.0).sum(-2, keepdim=True) / count
        centred = (rows - mean).where(counted, 0.0)
        variance = centred.square().sum(-2, keepdim=True) / count
        normed = centred * ((variance + self.eps).rsqrt() * self.weight) + self.bias
        return normed.to(frames.dtype)
