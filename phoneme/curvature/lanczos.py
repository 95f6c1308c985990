"""Both ends of a symmetric matrix's spectrum from one Krylov space, each value with two error bounds."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from phoneme.curvature.basis import Basis, norms
from phoneme.curvature.bounds import furthest, jacobi, likely_share
from phoneme.errors import InputError

log = logging.getLogger(__name__)

# In units of (machine epsilon) x (largest Ritz value): a remainder that small is rounding, the space is closed.
NEGLIGIBLE_ROUNDINGS = 16
CHECK_EVERY = 12  # the projected matrix is decomposed each time it has grown by a twelfth


@runtime_checkable
class Matrix(Protocol):
    """A symmetric matrix known by its products with rows [vector, n]."""

    size: int
    dtype: torch.dtype
    device: torch.device

    def __call__(self, vectors: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Eigenpair:
    """A Ritz value: some eigenvalue lies within `bound` = `residual` |A y - value y| + rounding of it."""

    value: float
    residual: float
    bound: float
    vector: Tensor  # y: unit length, on the matrix's device


@dataclass(frozen=True)
class Interval:
    """The extreme eigenvalue is inside, except with probability `failure` over the random start.

    The end inside the spectrum is certain, as a Rayleigh quotient is.
    """

    lower: float
    upper: float
    failure: float


@dataclass(frozen=True)
class Spectrum:
    """What one run found.

    - `top`, `bottom`: the wanted values from the outside in. From a start block of b vectors a multiple eigenvalue
      appears at most b times; one that appears fewer times has that multiplicity (with probability 1).
    - `largest`, `smallest`: where the extremes can be
    - `converged`: all residuals are as small as asked
    - `invariant`: the Krylov space closed, `complete`: it is the whole space, all eigenvalues were found
    - `rounding`: part of every bound; `products`: what it cost
    - `ritz`: all values of the last projection, ascending
    """

    top: tuple[Eigenpair, ...]
    bottom: tuple[Eigenpair, ...]
    largest: Interval
    smallest: Interval
    converged: bool
    invariant: bool
    complete: bool
    rounding: float
    products: int
    ritz: Float64[Tensor, " k"]


def lanczos(
    matrix: Matrix,
    *,
    top: int = 1,
    bottom: int = 1,
    tolerance: float = 1e-3,
    block: int = 1,
    max_products: int = 300,
    failure: float = 1e-3,
    seed: int = 0,
    decided: Callable[[Interval, Interval], bool] | None = None,
) -> Spectrum:
    """The `top` largest and `bottom` smallest eigenvalues, from one (block) Krylov space of a random start.

    Full reorthogonalisation; it stops when each wanted residual |A y - theta y| is at most `tolerance` max |theta| and
    `decided(largest, smallest)`, if given, says that the intervals of the two extremes answer the question; or at
    `max_products` products, with a warning for residuals that are too large. `failure` is the probability that an
    interval misses its extreme, for each of the two. A space that closes before there are enough values is continued
    with a new random vector.

    Memory: one vector of the matrix's precision for each product.

    Raises InputError for settings out of range and for products that are not finite.
    """
    _check(matrix.size, top, bottom, tolerance, block, max_products, failure)
    run = _Run(matrix, block, seed)
    top, bottom = min(top, matrix.size), min(bottom, matrix.size)
    checked, converged = 0, False
    while True:
        run.step()
        size = len(run.basis)
        spent = run.products + max(len(run.new), 1) > max_products
        if spent or run.closed or size - checked >= max(1, checked // CHECK_EVERY):
            checked = size
            run.decompose()
            enough = size >= min(top + bottom, matrix.size)
            converged = enough and run.largest_residual(top, bottom) <= tolerance * run.scale
            closed = run.krylov is not None or run.closed  # then the intervals stay as they are
            answered = converged and (decided is None or closed or decided(*run.extremes(failure)))
            if answered or spent or size == matrix.size:
                break
        run.extend()
    if not converged:
        log.warning(
            "after %d products the largest wanted residual is %.2g, asked was %.2g (%.2g of the largest value)",
            run.products,
            run.largest_residual(top, bottom),
            tolerance * run.scale,
            tolerance,
        )
    return run.spectrum(top, bottom, converged, failure)


class _Run:
    """The growing basis and the matrix's projection on it: A Q = Q T + new R on the active rows."""

    def __init__(self, matrix: Matrix, block: int, seed: int):
        self.matrix, self.block, self.products, self.steps = matrix, block, 0, 0
        self.generator = torch.Generator().manual_seed(seed)
        self.basis = Basis(matrix.size, matrix.dtype, matrix.device)
        self.epsilon = torch.finfo(matrix.dtype).eps
        self.projected = torch.zeros(0, 0, dtype=torch.float64)
        self.krylov: tuple[Tensor, int, float] | None = None  # the start's own space, when it has closed
        self.defect = self.dropped = self.scale = 0.0  # squared norm of what symmetry forbids; see orthonormal; |T|
        self.new = self._random(block)
        self.coupling = torch.zeros(block, 0, dtype=torch.float64)
        self._append()

    def _random(self, count: int) -> Float[Tensor, "vector n"]:
        """Random directions, the same on every device, orthogonal to the basis."""
        vectors = torch.empty(count, self.matrix.size, device=self.matrix.device, dtype=self.matrix.dtype)
        for vector in vectors:
            vector.copy_(torch.randn(self.matrix.size, generator=self.generator, dtype=torch.float64))
        for _ in range(2):  # again, because little is left of a random vector when the basis nearly fills the space
            self.basis.project_out(vectors)
            vectors = self.basis.orthonormal(vectors, 0.0)[0]
        return vectors

    @property
    def closed(self) -> bool:
        """Nothing of the last images is left outside the basis."""
        return not len(self.new)

    def step(self) -> None:
        """Multiply the active vectors and take their images apart."""
        images = self.matrix(self.active)
        self.products += len(self.active)
        self.steps += 1
        if not torch.isfinite(images).all():
            raise InputError(
                expected="finite products",
                got="NaN or infinity",
                where=f"product {self.products}",
                hint="are the parameters and the gradient finite? float32 may overflow: try float64",
            )
        coordinates = self.basis.project_out(images)  # [active, k]
        old = len(self.basis) - len(self.active)
        expected, own = self.projected[old:, :old], coordinates[:, old:]
        self.defect += float((coordinates[:, :old] - expected).square().sum() + ((own - own.T) / 2).square().sum())
        self.projected[old:, old:] = (own + own.T) / 2
        self.scale = max(self.scale, float(coordinates.norm(dim=1).max()))
        negligible = NEGLIGIBLE_ROUNDINGS * self.epsilon * self.scale
        room = self.matrix.size - len(self.basis)
        self.new, self.coupling, dropped = self.basis.orthonormal(images, negligible)
        self.dropped = max(self.dropped, dropped, float(self.coupling[room:].norm()))
        self.new, self.coupling = self.new[:room], self.coupling[:room]

    def extend(self) -> None:
        """Make the new directions the active ones; a random one where there is none."""
        if self.closed:
            self.krylov = self.krylov or (self.projected.clone(), self.steps, self._floor)
            self.new = self._random(1)
            self.coupling = torch.zeros(1, len(self.active), dtype=torch.float64)
        self._append()

    def _append(self) -> None:
        """T grows by the coupling; its own diagonal block comes with the next products."""
        self.projected = self._extended()
        self.basis.append(self.new)
        self.active = self.new

    def _extended(self) -> Float64[Tensor, "k k"]:
        k, b = len(self.projected), len(self.new)
        extended = torch.zeros(k + b, k + b, dtype=torch.float64)
        extended[:k, :k] = self.projected
        extended[k:, k - self.coupling.shape[1] : k] = self.coupling
        return extended.tril() + extended.tril(-1).T

    def decompose(self) -> None:
        """Ritz values and the lengths of their residuals."""
        self.ritz, self.coordinates = torch.linalg.eigh(self.projected)
        self.scale = float(self.ritz.abs().max())
        self.residuals = (self.coupling @ self.coordinates[-self.coupling.shape[1] :]).norm(dim=0)

    def largest_residual(self, top: int, bottom: int) -> float:
        k = len(self.residuals)
        return max([0.0, *self.residuals[max(k - top, 0) :].tolist(), *self.residuals[:bottom].tolist()])

    @property
    def rounding(self) -> float:
        """What the computed values may be off by, residuals apart.

        Storing k vectors and their images: a rounding each, sqrt(k) together. The products' own error shows in
        coordinates that symmetry makes zero, or equal; as much again may be in those that it does not tell about.
        """
        stored = 4 * self.epsilon * self.scale * len(self.basis) ** 0.5
        return stored + 2 * self.defect**0.5 + self.dropped

    @property
    def _floor(self) -> float:
        return max(self.dropped, self.epsilon * self.scale, 1e-300)

    def _interval(self, sign: float, failure: float) -> float:
        """The furthest the extreme can be, rounding apart: of A, or of -A."""
        projected, steps, floor = self.krylov or (self._extended(), self.steps, self._floor)
        alphas, betas = jacobi(sign * projected, self.block, steps, floor)
        share = likely_share(self.matrix.size, self.block, failure)
        return sign * furthest(alphas, betas, share / self.block)

    @property
    def complete(self) -> bool:
        """The basis spans the whole space."""
        return len(self.ritz) == self.matrix.size

    def extremes(self, failure: float) -> tuple[Interval, Interval]:
        """Where the largest and the smallest eigenvalue are."""
        least, most, rounding = float(self.ritz[0]), float(self.ritz[-1]), self.rounding
        if not self.scale and (self.closed or self.krylov):
            return Interval(0.0, 0.0, failure), Interval(0.0, 0.0, failure)
        below = least if self.complete else min(least, self._interval(-1.0, failure))
        above = most if self.complete else max(most, self._interval(1.0, failure))
        failure = 0.0 if self.complete else failure
        return Interval(most - rounding, above + rounding, failure), Interval(
            below - rounding, least + rounding, failure
        )

    def spectrum(self, top: int, bottom: int, converged: bool, failure: float) -> Spectrum:
        """The answer, with the wanted Ritz vectors formed."""
        k, rounding = len(self.ritz), self.rounding
        order = [*reversed(range(max(k - top, 0), k)), *range(min(bottom, k))]
        vectors = self.basis.combine(self.coordinates[:, order].T)
        vectors /= norms(vectors).to(vectors)[:, None]
        pairs = [
            Eigenpair(value, residual, residual + rounding, vector)
            for value, residual, vector in zip(
                self.ritz[order].tolist(), self.residuals[order].tolist(), vectors, strict=True
            )
        ]
        largest, smallest = self.extremes(failure)
        return Spectrum(
            top=tuple(pairs[: min(top, k)]),
            bottom=tuple(pairs[min(top, k) :]),
            largest=largest,
            smallest=smallest,
            converged=converged,
            invariant=self.closed or self.krylov is not None,
            complete=self.complete,
            rounding=rounding,
            products=self.products,
            ritz=self.ritz,
        )


def _check(size: int, top: int, bottom: int, tolerance: float, block: int, max_products: int, failure: float) -> None:
    for good, name, expected, got, hint in (
        (
            top >= 0 and bottom >= 0 and top + bottom > 0,
            "top, bottom",
            "at least one value",
            f"{top} and {bottom}",
            "top=1, bottom=1 gives the two ends",
        ),
        (tolerance > 0, "tolerance", "a positive number", tolerance, "1e-3 of the largest eigenvalue is usual"),
        (1 <= block <= size, "block", f"1 to {size} vectors", block, "1 unless multiplicities are wanted"),
        (max_products >= block, "max_products", f"at least {block}, one block", max_products, "300 is the default"),
        (0 < failure < 1, "failure", "a probability between 0 and 1", failure, "1e-3: wrong once in a thousand runs"),
    ):
        if not good:
            raise InputError(expected=expected, got=got, where=name, hint=hint)
