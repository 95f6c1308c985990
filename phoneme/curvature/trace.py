"""The trace, the sum of all curvatures, from products: Hutchinson's estimator and Hutch++."""

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from phoneme.curvature.basis import Basis, inner, norms
from phoneme.curvature.density import Quadrature
from phoneme.curvature.lanczos import NEGLIGIBLE_ROUNDINGS, Matrix
from phoneme.errors import InputError

TOGETHER = 8  # vectors a call: they share a graph that has to be built again, and take 8 n numbers


@dataclass(frozen=True)
class Trace:
    """An unbiased estimate from `products` products.

    `standard_error` is estimated from the samples that the value is a mean of, so for few of them it is itself rough:
    (value - truth) / standard_error has then the tails of a t-distribution.
    """

    value: float
    standard_error: float
    products: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def hutchinson(matrix: Matrix, *, products: int = 100, seed: int = 0) -> Trace:
    """tr A = E z^T A z for random signs z (Hutchinson 1990).

    The variance of a sample is 2 (|A|_F^2 - sum_i a_ii^2): a diagonal matrix is done exactly.

    Raises InputError for fewer than 2 products, and for products that are not finite.
    """
    if products < 2:
        raise InputError(expected="at least 2", got=products, where="products", hint="100 is the default")
    samples = _samples(matrix, products, torch.Generator().manual_seed(seed), lambda signs: signs)
    return _mean(samples, 0.0, products)


def hutch_plus_plus(matrix: Matrix, *, products: int = 99, seed: int = 0) -> Trace:
    """tr A = tr Q^T A Q + tr P A P, P = I - Q Q^T: the first exactly, the second by Hutchinson (Meyer, Musco, Musco
    and Woodruff 2021, algorithm 1).

    A third of the products sketch the dominant directions, Q = orth(A S), a third take Q's own part, and the rest
    sample what remains. A matrix of rank `products` / 3 or less is done exactly. The standard error is that of
    the samples; given Q they are unbiased.

    Memory: `products` / 3 vectors, twice.

    Raises InputError for fewer than 4 products, and for products that are not finite.
    """
    if products < 4:
        raise InputError(
            expected="at least 4", got=products, where="products", hint="two samples have to be left for the remainder"
        )
    generator, basis = torch.Generator().manual_seed(seed), Basis(matrix.size, matrix.dtype, matrix.device)
    sketched = min(products // 3, matrix.size)
    images = torch.cat([_finite(matrix(signs)) for signs in _signs(matrix, sketched, generator)])
    negligible = NEGLIGIBLE_ROUNDINGS * torch.finfo(matrix.dtype).eps * float(norms(images).max())
    for image in images.split(1):
        basis.project_out(image)
        basis.append(basis.orthonormal(image, negligible)[0])
    del images
    exact, units = 0.0, torch.eye(len(basis), dtype=torch.float64)
    for first in range(0, len(basis), TOGETHER):
        rows = basis.combine(units[first : first + TOGETHER])
        exact += float(inner(rows, _finite(matrix(rows))).trace())

    def outside(signs: Tensor) -> Tensor:
        basis.project_out(signs)
        return signs

    left = products - sketched - len(basis)
    return _mean(_samples(matrix, left, generator, outside), exact, products)


def trace_of(rules: Sequence[Quadrature], size: int) -> Trace:
    """From the spectral density's products, without a new one: the mean of n v^T A v, v = z / |z|.

    The first Lanczos coefficients have v^T A v = alpha_1 and |A v|^2 = alpha_1^2 + beta_1^2. Over all directions v the
    variance of a sample is 2 (n |A|_F^2 - (tr A)^2) / (n + 2), and |A|_F^2 = n E |A v|^2: for a few probes that is a
    better standard error than their scatter.

    Raises InputError for no rules.
    """
    if not rules:
        raise InputError(expected="at least one rule", got="none", where="quadratures", hint="3 probes are usual")
    value = size * statistics.fmean(float(rule.alphas[0]) for rule in rules)
    frobenius = size * statistics.fmean(float(rule.alphas[0] ** 2 + rule.betas[0] ** 2) for rule in rules)
    variance = 2 * max(size * frobenius - value * value, 0.0) / (size + 2)
    return Trace(value, math.sqrt(variance / len(rules)), len(rules))


def _samples(
    matrix: Matrix, count: int, generator: torch.Generator, prepare: Callable[[Tensor], Tensor]
) -> list[float]:
    """z^T A z for `count` prepared sign vectors."""
    samples: list[float] = []
    for signs in _signs(matrix, count, generator):
        vectors = prepare(signs)
        samples += inner(vectors, _finite(matrix(vectors))).diagonal().tolist()
    return samples


def _signs(matrix: Matrix, count: int, generator: torch.Generator) -> Iterator[Float[Tensor, "vector n"]]:
    """Random signs, the same on every device, a few vectors at a time."""
    while count > 0:
        signs = torch.randint(2, (min(TOGETHER, count), matrix.size), generator=generator)
        yield (2 * signs - 1).to(device=matrix.device, dtype=matrix.dtype)
        count -= len(signs)


def _finite(images: Float[Tensor, "vector n"]) -> Float[Tensor, "vector n"]:
    if not torch.isfinite(images).all():
        raise InputError(
            expected="finite products",
            got="NaN or infinity",
            where="trace",
            hint="are the parameters and the gradient finite? float32 may overflow: try float64",
        )
    return images


def _mean(samples: Sequence[float], exact: float, products: int) -> Trace:
    error = statistics.stdev(samples) / len(samples) ** 0.5
    return Trace(exact + statistics.fmean(samples), error, products)
