"""The gradient noise scale (McCandlish et al. 2018, "An Empirical Model of Large-Batch Training").

The gradient of a batch of B examples is the true gradient G plus noise of covariance Sigma / B. The noise scale
tr(Sigma) / |G|^2 is the batch size at which noise and signal are equal. Of the two reasons for a loss that wanders it
tells which: with batches well below it, they are too small, and twice the batch makes almost twice the progress; with
batches well above it, the rate is too large for the surface, and more examples only cost. As the loss falls, it grows.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor, nn

from phoneme.errors import InputError

LEAST_REPEATS = 4  # of which a variance is taken; below 3 degrees of freedom `student_quantile` is too inexact
Loss = Callable[[Tensor, Tensor], Tensor]  # (outputs, targets) -> mean over the batch


@dataclass(frozen=True)
class NoiseScale:
    """tr(Sigma) / |G|^2 in examples, with the interval that covers it with probability `confidence`.

    The interval is Fieller's (1954): every ratio that a t-test does not refuse, with variances from the jackknife. Its
    upper end is infinite where the gradient cannot be told from 0: then only a lower bound is known. Numerator and
    denominator are unbiased, so `gradient_square` may come out negative; the value is then infinite.
    """

    value: float
    low: float
    high: float
    gradient_square: float  # |G|^2
    trace: float  # tr(Sigma)
    confidence: float
    repeats: int

    def to_dict(self) -> dict[str, Any]:
        """For JSON, which has no infinity: None stands for no upper bound."""
        return {name: None if value == math.inf else value for name, value in asdict(self).items()}


def noise_scale(
    small_squares: Sequence[float], big_squares: Sequence[float], *, small: int, big: int, confidence: float = 0.95
) -> NoiseScale:
    """From squared gradient norms at two batch sizes, one of each a repeat (appendix A.1).

    |G|^2 = (big |G_big|^2 - small |G_small|^2) / (big - small) and
    tr(Sigma) = (|G_small|^2 - |G_big|^2) / (1/small - 1/big). Both are unbiased; they are averaged over the
    repeats before the ratio is taken, which is not. The two gradients of a repeat may share examples, two repeats may
    not. `small_squares` may be means over several batches.

    >>> noise_scale([3.0] * 4, [2.0] * 4, small=10, big=20).value  # |G|^2 = 1, tr(Sigma) = 20
    20.0

    Raises InputError for fewer than 4 repeats, unequal numbers of them, sizes out of order, norms that are not finite.
    """
    if not 0 < small < big:
        raise InputError(
            expected="0 < small < big",
            got=f"small={small}, big={big}",
            where="batch sizes",
            hint="big = 4 * small or more; the further apart, the narrower the interval",
        )
    if not 0.0 < confidence < 1.0:
        raise InputError(expected="a probability in (0, 1)", got=confidence, where="confidence", hint="0.95 is usual")
    if len(small_squares) != len(big_squares) or len(big_squares) < LEAST_REPEATS:
        raise InputError(
            expected=f"at least {LEAST_REPEATS} repeats of both batch sizes",
            where="squared norms",
            got=f"{len(small_squares)} and {len(big_squares)}",
            hint="20 repeats make a usable interval",
        )
    pairs = list(zip(small_squares, big_squares, strict=True))
    squares = [(big * b - small * s) / (big - small) for s, b in pairs]
    traces = [(s - b) / (1 / small - 1 / big) for s, b in pairs]
    repeats = len(pairs)
    gradient_square, trace = math.fsum(squares) / repeats, math.fsum(traces) / repeats
    # leave one repeat out
    without = [
        ((gradient_square * repeats - g) / (repeats - 1), (trace * repeats - t) / (repeats - 1))
        for g, t in zip(squares, traces, strict=True)
    ]
    return with_interval(gradient_square, trace, without, confidence)


def noise_scale_of_batches(
    model: nn.Module,
    loss: Loss,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    parts: int = 4,
    confidence: float = 0.95,
) -> NoiseScale:
    """Measured on a model as it is, from equal batches `(inputs, targets)`: `parts` of them make a big one.

    It needs batch gradients only, so BatchNorm may be in training mode: the big gradient is the mean of its parts, as
    in gradient accumulation, and the noise is that of batches of this size, each with its own statistics. With dropout
    in training mode its noise counts too. An example is a row of `inputs`: a frame, or an utterance with all its
    frames. Batches have to be drawn at random. `.grad`, buffers, modes and the random state are left as they were.

    Raises InputError for batches of unequal size, fewer than 4 * `parts` of them (a rest that fills no big batch is
    refused too), and as `noise_scale`.
    """
    if parts < 2:
        raise InputError(expected="at least 2 parts", got=parts, where="parts", hint="4: big batches of 4 small ones")
    trainable = [p for p in model.parameters() if p.requires_grad]
    if not trainable:
        raise InputError(
            expected="a model with trainable parameters", got="none", where="model", hint="are all of them frozen?"
        )
    devices = {p.device for p in trainable if p.device.type == "cuda"}
    sizes, rows, total = [], [], None
    with torch.enable_grad(), torch.random.fork_rng(devices):
        for inputs, targets in batches:
            gradients = _batch_gradients(model, loss, inputs, targets, trainable)
            sizes.append(len(inputs))
            rows.append(square(gradients))
            total = gradients if total is None else [t + g for t, g in zip(total, gradients, strict=True)]
            if len(sizes) % parts == 0:
                rows.append(square(total) / parts**2)
                total = None
    if len(set(sizes)) != 1 or len(sizes) % parts:
        raise InputError(
            expected=f"batches of one size, a multiple of {parts} of them",
            where="batches, parts",
            got=f"{len(sizes)} of sizes {sorted(set(sizes))}",
            hint="leave the ragged last batch out",
        )
    values = torch.stack(rows).view(-1, parts + 1)  # [repeat, (each part, the big batch)]
    read = torch.stack([values[:, :-1].mean(dim=1), values[:, -1]]).tolist()
    return noise_scale(*read, small=sizes[0], big=sizes[0] * parts, confidence=confidence)


def with_interval(
    gradient_square: float, trace: float, without: Sequence[tuple[float, float]], confidence: float
) -> NoiseScale:
    """The ratio with Fieller's interval; `without` has both estimates with one repeat (or example) left out each."""
    if not math.isfinite(gradient_square) or not math.isfinite(trace):
        raise InputError(
            expected="finite gradients",
            got="NaN or infinity",
            where="gradient noise scale",
            hint="training diverged: a smaller rate, warm-up or gradient clipping may help",
        )
    n = len(without)
    g_mean, t_mean = (math.fsum(column) / n for column in zip(*without, strict=True))
    # (n - 1) / n sum (theta_i - mean)^2, the jackknife's variance (Efron and Stein 1981)
    g_var = (n - 1) / n * math.fsum((g - g_mean) ** 2 for g, _ in without)
    t_var = (n - 1) / n * math.fsum((t - t_mean) ** 2 for _, t in without)
    covariance = (n - 1) / n * math.fsum((g - g_mean) * (t - t_mean) for g, t in without)
    squared = student_quantile((1 + confidence) / 2, n - 1) ** 2
    # the ratios r with (trace - r square)^2 <= quantile^2 Var(trace - r square): a r^2 - 2 b r + c <= 0
    a = gradient_square**2 - squared * g_var
    b = gradient_square * trace - squared * covariance
    c = trace**2 - squared * t_var
    root = math.sqrt(max(b * b - a * c, 0.0))
    if gradient_square > 0 and a > 0:
        low, high = (b - root) / a, (b + root) / a
    else:  # |G|^2 may be 0. Ratios from the positive root on, if even tr(Sigma) is certainly positive
        low, high = ((b - root) / a if a < 0 < c else 0.0), math.inf
    value = max(trace, 0.0) / gradient_square if gradient_square > 0 else math.inf
    return NoiseScale(value, max(low, 0.0), max(high, 0.0), gradient_square, trace, confidence, repeats=n)


def student_quantile(probability: float, freedom: int) -> float:
    """Of Student's t, by the expansion of Abramowitz and Stegun 26.7.5: at 0.975 right to 0.1 % from 3 degrees on.

    >>> round(student_quantile(0.975, 3), 2), round(student_quantile(0.975, 19), 3)  # tables: 3.182, 2.093
    (3.18, 2.093)
    """
    z, n = NormalDist().inv_cdf(probability), freedom
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return math.fsum(term / n**power for power, term in enumerate(terms))


def square(gradients: Sequence[Tensor]) -> Tensor:
    """The squared norm of all of them together, on the device, in float64 (Apple's GPU: float32)."""
    wide = torch.float32 if gradients[0].device.type == "mps" else torch.float64
    return torch.stack([torch.linalg.vector_norm(g.to(wide)) for g in gradients]).square().sum()


def _batch_gradients(
    model: nn.Module, loss: Loss, inputs: Tensor, targets: Tensor, trainable: list[nn.Parameter]
) -> tuple[Tensor, ...]:
    """Without touching `.grad` or the buffers, of which BatchNorm writes to copies."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    value = loss(torch.func.functional_call(model, buffers, (inputs,)), targets)
    return torch.autograd.grad(value, trainable, materialize_grads=True)
