"""The two ends of the Hessian's spectrum: by Lanczos, or from all eigenvalues where there are few parameters."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from phoneme.curvature.basis import norms
from phoneme.curvature.critical_point import Extreme
from phoneme.curvature.inertia import dense
from phoneme.curvature.lanczos import Interval, Matrix, Spectrum, lanczos
from phoneme.errors import InputError

LARGEST_BLOCK = 64  # start vectors: a multiplicity of more is not counted
EXHAUSTED = 1e-6  # of max |lambda|: residuals this small after a few products say that few values are distinct


@dataclass(frozen=True)
class Ends:
    """Both extremes with a unit vector each; `eigenvalues`, ascending, if the whole spectrum was computed."""

    lambda_min: Extreme
    lambda_max: Extreme
    leading: tuple[float, ...]  # the largest ones, descending
    down: Float[Tensor, " n"]  # a Ritz vector of lambda_min
    up: Float[Tensor, " n"]  # of lambda_max
    eigenvalues: Float64[Tensor, " n"] | None

    @property
    def scale(self) -> float:
        """max |lambda|."""
        return max(abs(self.lambda_min.value), abs(self.lambda_max.value))

    def widened(self, low: float, high: float) -> "Ends":
        """With bounds and intervals that hold for residuals of these sizes."""
        return replace(self, lambda_min=self.lambda_min.widened(low), lambda_max=self.lambda_max.widened(high))


def unit(vector: Float[Tensor, " n"]) -> Float64[Tensor, " n"]:
    """Of length 1, in float64."""
    vector = vector.double()
    return vector / norms(vector[None]).to(vector)


def by_decomposition(matrix: Matrix, leading: int) -> Ends:
    """All eigenvalues of the dense matrix; give it a float64 one.

    Their errors are at most that of the products, which the asymmetry of the matrix tells, and the solver's
    n eps |A| (LAPACK Users' Guide, section 4.7). Eigenvalues that these cannot tell apart count as one multiple one.

    Raises InputError for second derivatives that are not symmetric.
    """
    full, asymmetry = dense(matrix)
    eigenvalues, vectors = torch.linalg.eigh(full)
    values = eigenvalues.double().cpu()
    scale = float(values.abs().max())
    _check_symmetry(asymmetry, scale, matrix.dtype)
    rounding = len(values) * torch.finfo(full.dtype).eps * scale + 2 * asymmetry * len(values) ** 0.5

    def extreme(index: int) -> Extreme:
        value = float(values[index])
        same = int(((values - value).abs() <= 2 * rounding).sum())
        return Extreme(value, rounding, value - rounding, value + rounding, 0.0, same)

    largest = tuple(values.flip(0)[:leading].tolist())
    return Ends(extreme(0), extreme(-1), largest, vectors[:, 0].clone(), vectors[:, -1].clone(), values)


def _check_symmetry(defect: float, scale: float, dtype: torch.dtype) -> None:
    """An asymmetry far above rounding: half of the digits are not rounding's."""
    if defect > torch.finfo(dtype).eps ** 0.5 * scale:
        raise InputError(
            expected="second derivatives that are symmetric",
            got=f"an asymmetry of {defect:.2g} beside eigenvalues of up to {scale:.2g}",
            where="the Hessian-vector products",
            hint="an operation of the model or the loss has a wrong second derivative; write it with plain operations",
        )


def by_lanczos(
    matrix: Matrix,
    leading: int,
    *,
    tolerance: float,
    max_products: int,
    failure: float,
    seed: int,
    needs_signs: Callable[[float], bool],
) -> Ends:
    """The `leading` largest and the smallest, to `tolerance`; and the signs of both ends if they are needed.

    `needs_signs(max |lambda|)` decides, when the values are there, whether the run goes on until both intervals
    are on one side of 0 (or `max_products` are spent).
    """

    def decided(largest: Interval, smallest: Interval) -> bool:
        ends = (largest.lower, largest.upper), (smallest.lower, smallest.upper)
        signs_known = all(low > 0 or high < 0 for low, high in ends)
        return signs_known or not needs_signs(max(abs(end) for interval in ends for end in interval))

    found = lanczos(
        matrix,
        top=leading,
        bottom=1,
        tolerance=tolerance,
        max_products=max_products,
        failure=failure,
        seed=seed,
        decided=decided,
    )
    scale = max(abs(found.top[0].value), abs(found.bottom[0].value))
    _check_symmetry(found.rounding, scale, matrix.dtype)
    ends = found.top[0], found.bottom[0]
    exhausted = found.invariant or all(pair.residual <= max(EXHAUSTED * scale, found.rounding) for pair in ends)
    most, least = _multiplicities(matrix, found, seed) if exhausted and scale else (None, None)
    return Ends(
        lambda_min=Extreme.of(found.bottom[0], found.smallest, least),
        lambda_max=Extreme.of(found.top[0], found.largest, most),
        leading=tuple(pair.value for pair in found.top),
        down=found.bottom[0].vector,
        up=found.top[0].vector,
        eigenvalues=found.ritz if found.complete else None,
    )


def _multiplicities(matrix: Matrix, found: Spectrum, seed: int) -> tuple[int | None, int | None]:
    """How many copies of the largest and the smallest eigenvalue the bounds cannot tell apart, None for too many.

    A Krylov space that is exhausted after a few products has met each distinct eigenvalue once, and they are few:
    blocks of start vectors, doubled until both values appear less often than a block has vectors, need as few steps.
    """
    counts: list[int | None] = [None, None]
    block = 2
    while None in counts and block <= min(LARGEST_BLOCK, matrix.size):
        run = lanczos(
            matrix,
            top=block,
            bottom=block,
            block=block,
            tolerance=EXHAUSTED,
            max_products=block * (len(found.ritz) + 2),
            seed=seed,
        )
        for end, pairs in enumerate((run.top, run.bottom)):
            same = sum(abs(pair.value - pairs[0].value) <= pair.bound + pairs[0].bound for pair in pairs)
            if counts[end] is None and (same < block or block == matrix.size):
                counts[end] = same
        block *= 2
    return counts[0], counts[1]
