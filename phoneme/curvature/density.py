"""The spectral density by stochastic Lanczos quadrature (Ubaru, Chen and Saad 2017; Ghorbani, Krishnan and Xiao 2019).

A unit vector v sees the spectrum through its spectral measure: mass (v^T x_i)^2 at eigenvalue lambda_i. k Lanczos steps
from v give the Gauss rule of that measure, which integrates polynomials of degree 2 k - 1 exactly (Golub and Meurant
2010, chapter 6). For v of random direction each mass is 1 / n on average, so the mean of the rules over some starts
estimates the density of eigenvalues.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from phoneme.curvature.basis import Basis
from phoneme.curvature.lanczos import NEGLIGIBLE_ROUNDINGS, Matrix
from phoneme.errors import InputError

SIGMA = 0.005  # of the spectrum's range: on 401 points a sigma is two spacings wide, outliers 3 % apart are told apart
MARGIN = 5.0  # the grid goes on so many sigmas outside: 3e-7 of a Gaussian are beyond


@dataclass(frozen=True)
class Quadrature:
    """The Gauss rule of one Gaussian start's spectral measure: `weights`, sum 1, at `nodes`, the Ritz values.

    - `alphas`, `betas`: Lanczos coefficients; betas[-1] is the length of the last remainder
    - `square`: squared length of the start before it was normalised
    - `rounding`: the coefficients are those of a matrix A + E, |E| <= `rounding`
    - `closed`: nothing remains, so the rule is the measure itself
    """

    alphas: Float64[Tensor, " k"]
    betas: Float64[Tensor, " k"]
    nodes: Float64[Tensor, " k"]
    weights: Float64[Tensor, " k"]
    square: float
    rounding: float
    closed: bool


@dataclass(frozen=True)
class Density:
    """Eigenvalues per unit of curvature as a share of all, blurred by a Gaussian of width `sigma`; integral 1.

    `standard_error` is that of the mean over `probes` starts of `steps` Lanczos steps at most; what the blur and
    the finite number of steps hide it does not tell. An exactly known spectrum has 0 probes.
    """

    grid: tuple[float, ...]
    density: tuple[float, ...]
    standard_error: tuple[float, ...]
    sigma: float
    probes: int
    steps: int

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the three curves are lists."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def quadratures(matrix: Matrix, *, probes: int = 4, steps: int = 40, seed: int = 0) -> tuple[Quadrature, ...]:
    """One Gauss rule for each of `probes` Gaussian starts: `probes` * `steps` products at most.

    Full reorthogonalisation; a run is no longer than the matrix is large and ends where its Krylov space closes. The
    starts are the same on every device, and the first ones stay the same when there are more.

    Memory: `steps` vectors of the matrix's precision.

    Raises InputError for no probes or steps and for products that are not finite.
    """
    for name, value in (("probes", probes), ("steps", steps)):
        if value < 1:
            raise InputError(expected="at least 1", got=value, where=name, hint="4 probes of 40 steps are the default")
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        _quadrature(matrix, torch.randn(matrix.size, generator=generator, dtype=torch.float64), min(steps, matrix.size))
        for _ in range(probes)
    )


def _quadrature(matrix: Matrix, start: Float64[Tensor, " n"], steps: int) -> Quadrature:
    length = float(start.norm())
    row = (start / length).to(device=matrix.device, dtype=matrix.dtype)[None]
    basis, epsilon = Basis(matrix.size, matrix.dtype, matrix.device), torch.finfo(matrix.dtype).eps
    alphas, betas, scale, defect = [], [], 0.0, 0.0
    while len(basis) < steps and len(row):
        basis.append(row)
        images = matrix(row)
        coordinates = basis.project_out(images)[0]
        if not torch.isfinite(coordinates).all():
            raise InputError(
                expected="finite products",
                got="NaN or infinity",
                where=f"Lanczos step {len(basis)}",
                hint="are the parameters and the gradient finite? float32 may overflow: try float64",
            )
        expected = torch.tensor([0.0] * (len(betas) - 1) + betas[-1:], dtype=torch.float64)  # by symmetry
        defect += float((coordinates[:-1] - expected).square().sum())
        scale = max(scale, float(coordinates.norm()))
        row, remainder, dropped = basis.orthonormal(images, NEGLIGIBLE_ROUNDINGS * epsilon * scale)
        alphas.append(float(coordinates[-1]))
        betas.append(float(remainder[0, 0]) if len(row) else dropped)
    closed = not len(row) or len(basis) == matrix.size
    alpha, beta = torch.tensor(alphas, dtype=torch.float64), torch.tensor(betas, dtype=torch.float64)
    nodes, weights = gauss(alpha, beta[:-1])
    # as in `lanczos`: storing the vectors, twice what symmetry shows of the products' error, what was left out
    stored = 4 * epsilon * float(nodes.abs().max()) * len(basis) ** 0.5
    rounding = stored + 2 * defect**0.5 + (betas[-1] if closed else 0.0)
    return Quadrature(alpha, beta, nodes, weights, length * length, rounding, closed)


def gauss(alphas: Float64[Tensor, " k"], off: Float64[Tensor, " l"]) -> tuple[Float64[Tensor, " k"], ...]:
    """Nodes, ascending, and weights of the rule whose Jacobi matrix has this diagonal and this off-diagonal.

    The nodes are its eigenvalues, the weights the squared first entries of its eigenvectors (Golub and Welsch 1969).

    >>> gauss(torch.tensor([0.0, 0.0]).double(), torch.tensor([1.0]).double())  # of mass 1/2 at -1 and at 1
    (tensor([-1.,  1.], dtype=torch.float64), tensor([0.5000, 0.5000], dtype=torch.float64))
    """
    nodes, vectors = torch.linalg.eigh(torch.diag(alphas) + torch.diag(off, 1) + torch.diag(off, -1))
    weights = vectors[0].square()
    return nodes, weights / weights.sum()


def spectral_density(rules: Sequence[Quadrature], *, sigma: float | None = None, points: int = 401) -> Density:
    """The mean over the rules, with its standard error: phi(t) = mean_i sum_j w_ij N(t; theta_ij, sigma^2).

    `sigma`, in the unit of the eigenvalues, is 0.5 % of the range of the Ritz values if None. The grid of `points`
    spans them and 5 sigma on both sides (the broadening: Lin, Saad and Yang 2016).

    Raises InputError for fewer than 2 rules, and for a grid too coarse for sigma.
    """
    if len(rules) < 2:
        raise InputError(
            expected="at least 2 probes",
            got=len(rules),
            where="quadratures",
            hint="the standard error is taken from their differences",
        )
    grid, sigma = _grid(torch.cat([rule.nodes for rule in rules]), sigma, points)
    each = torch.stack([_blurred(rule.nodes, rule.weights, grid, sigma) for rule in rules])
    return Density(
        tuple(grid.tolist()),
        tuple(each.mean(dim=0).tolist()),
        tuple((each.std(dim=0) / len(rules) ** 0.5).tolist()),
        sigma,
        probes=len(rules),
        steps=max(len(rule.nodes) for rule in rules),
    )


def density_of(eigenvalues: Float[Tensor, " n"], *, sigma: float | None = None, points: int = 401) -> Density:
    """The same of a spectrum that is known, every eigenvalue of it: 0 probes, standard error 0.

    Raises InputError for no eigenvalues, and for a grid too coarse for sigma.
    """
    if not len(eigenvalues):
        raise InputError(expected="at least one eigenvalue", got="none", where="eigenvalues", hint="an empty matrix?")
    nodes = eigenvalues.detach().cpu().double()
    grid, sigma = _grid(nodes, sigma, points)
    density = _blurred(nodes, torch.full_like(nodes, 1 / len(nodes)), grid, sigma)
    return Density(tuple(grid.tolist()), tuple(density.tolist()), (0.0,) * points, sigma, probes=0, steps=len(nodes))


def _grid(nodes: Float64[Tensor, " k"], sigma: float | None, points: int) -> tuple[Float64[Tensor, " point"], float]:
    low, high = float(nodes.min()), float(nodes.max())
    if sigma is None:
        sigma = SIGMA * ((high - low) or abs(high) or 1.0)
    low, high = low - MARGIN * sigma, high + MARGIN * sigma
    if not sigma > 0 or points < 2 or (high - low) / (points - 1) > sigma:
        raise InputError(
            expected="a grid whose spacing is at most sigma",
            got=f"sigma={sigma:.3g}, {points} points from {low:.3g} to {high:.3g}",
            where="sigma, points",
            hint="more points, or a larger sigma",
        )
    return torch.linspace(low, high, points, dtype=torch.float64), sigma


def _blurred(
    nodes: Float64[Tensor, " k"], weights: Float64[Tensor, " k"], grid: Float64[Tensor, " point"], sigma: float
) -> Float64[Tensor, " point"]:
    distance = (grid[:, None] - nodes) / sigma  # [point, k]
    return torch.exp(-distance.square() / 2) @ weights / (sigma * math.sqrt(2 * math.pi))
