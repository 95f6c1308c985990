"""How many eigenvalues are positive, zero and negative: exactly, without computing one."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from phoneme.curvature.hvp import free_bytes
from phoneme.curvature.lanczos import Matrix
from phoneme.errors import InputError


@dataclass(frozen=True)
class Inertia:
    """Numbers of eigenvalues above, within and below +-`tolerance`.

    Exact for the matrix given, unless an eigenvalue lies within about `rounding` of +-`tolerance`.
    """

    positive: int
    zero: int
    negative: int
    tolerance: float
    rounding: float

    @property
    def minimum_ratio(self) -> float:
        """The share of positive eigenvalues."""
        return self.positive / (self.positive + self.zero + self.negative)


def dense(matrix: Matrix, columns: int = 64) -> tuple[Float[Tensor, "n n"], float]:
    """The whole matrix from products with the unit vectors, `columns` at a time, and its asymmetry.

    The result is (A + A^T) / 2; the asymmetry, the largest |A_ij - A_ji| / 2, tells how exact the products were.
    In the matrix's own precision: for exact counts near zero take a float64 one. Memory: twice n^2 numbers.

    Raises InputError for a matrix that does not fit into the free memory, and for products that are not finite.
    """
    size = matrix.size
    check_room(size, matrix.dtype, matrix.device)
    full = torch.empty(size, size, dtype=matrix.dtype, device=matrix.device)
    for start in range(0, size, columns):
        stop = min(start + columns, size)
        units = torch.zeros(stop - start, size, dtype=matrix.dtype, device=matrix.device)
        units[torch.arange(stop - start), torch.arange(start, stop)] = 1
        full[start:stop] = matrix(units)
        if not torch.isfinite(full[start:stop]).all():
            raise InputError(
                expected="finite products",
                got="NaN or infinity",
                where=f"columns {start} to {stop - 1} of the Hessian",
                hint="has the loss second derivatives here? |x| and sqrt(x) have none at 0",
            )
    asymmetry = 0.0
    for start in range(0, size, columns):  # by strips, in place: row strip against column strip
        rows, cols = full[start : start + columns, start:], full[start:, start : start + columns].T
        asymmetry = max(asymmetry, float((rows - cols).abs().max()) / 2)
        mean = (rows + cols) / 2
        full[start : start + columns, start:] = mean
        full[start:, start : start + columns] = mean.T
    return full, asymmetry


def check_room(size: int, dtype: torch.dtype, device: torch.device) -> None:
    """Raises InputError if a dense matrix of this size, twice, does not fit into the free memory."""
    needed, free = 2 * size**2 * torch.finfo(dtype).bits // 8, free_bytes(device)
    if needed > free:
        raise InputError(
            expected=f"{needed / 2**30:.3g} GiB of free memory for the dense Hessian of {size} parameters, twice",
            got=f"{free / 2**30:.3g} GiB",
            where="spectrum, exact",
            hint="probes gives the minimum ratio as an interval; or look at some parameters, parameters=[...]",
        )


def inertia(matrix: Float[Tensor, "n n"], tolerance: float = 0.0) -> Inertia:
    """Counts by Sylvester's law: A - t I = L D L^T has as many positive eigenvalues as D, which has 1x1 and 2x2 blocks.

    So the eigenvalues above t are counted from one factorisation at t = tolerance, those below from one at
    -tolerance (Bunch and Kaufman 1977; n^3 / 3 operations each, in float64). The factors are exact for a
    matrix nearby; `rounding` = n eps |A|_1 is how near, where pivots do not grow (Higham 2002, section 11.1, has the
    worst case, which is not met in practice).

    Raises InputError for a negative tolerance and for a matrix that is not finite.
    """
    if not tolerance >= 0:
        raise InputError(
            expected="a tolerance of 0 or more",
            got=tolerance,
            where="tolerance",
            hint="eigenvalues in [-tolerance, tolerance] count as zero",
        )
    if not torch.isfinite(matrix).all():
        raise InputError(
            expected="a finite matrix",
            got="NaN or infinity in it",
            where="the dense Hessian",
            hint="are the parameters and the loss finite?",
        )
    positive, _ = _signs(matrix, tolerance)
    _, negative = _signs(matrix, -tolerance)
    return Inertia(positive, len(matrix) - positive - negative, negative, tolerance, rounding_of(matrix))


def rounding_of(matrix: Float[Tensor, "n n"]) -> float:
    """n eps |A|_1: an eigenvalue that near to a shift may be counted on either side of it."""
    norm = float(torch.linalg.matrix_norm(matrix, 1)) if len(matrix) else 0.0
    return len(matrix) * torch.finfo(torch.float64).eps * norm


def _signs(matrix: Float[Tensor, "n n"], shift: float) -> tuple[int, int]:
    """Numbers of positive and negative eigenvalues of A - shift I."""
    shifted = matrix.to(torch.float64, copy=True)
    shifted.diagonal().sub_(shift)
    factor, pivots, _ = torch.linalg.ldl_factor_ex(shifted)
    diagonal, below = factor.diagonal().cpu(), factor.diagonal(-1).cpu()
    single, first = _blocks(pivots.cpu())
    ones = diagonal[single]
    # A 2x2 block's eigenvalues have the sum a + c and the product a c - b^2; the pivoting takes one only if b is
    # large, so that the product is negative: one of each sign. The general rule costs nothing.
    a, b, c = diagonal[first], below[first], diagonal[first + 1]
    product, total = a * c - b * b, a + c
    positive = (ones > 0).sum() + (product < 0).sum() + 2 * ((product > 0) & (total > 0)).sum()
    negative = (ones < 0).sum() + (product < 0).sum() + 2 * ((product > 0) & (total < 0)).sum()
    return int(positive), int(negative)


def _blocks(pivots: Int[Tensor, " n"]) -> tuple[Int[Tensor, " single"], Int[Tensor, " double"]]:
    """Where the 1x1 blocks of D are, and where the 2x2 blocks begin: LAPACK marks both rows of those by a minus."""
    paired = pivots < 0
    first = paired & (paired.cumsum(dim=0) % 2 == 1)
    return (~paired).nonzero().flatten(), first.nonzero().flatten()
