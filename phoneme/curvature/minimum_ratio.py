"""Which share of the eigenvalues is positive, zero and negative: counted where the matrix is small, else an interval.

A quadrature rule is no count: of the mass near zero it says only that it is near. What is certain is this.

1. Of a measure whose Lanczos coefficients are known up to (alpha_k, beta_k), the mass left of x lies between what the
   Gauss-Radau rule with a node at x has left of x, and that with the node's own weight: the inequalities of
   Chebyshev, Markov and Stieltjes (Akhiezer 1965, chapter 2; Golub and Meurant 2010, chapter 6).
2. Of a start z ~ N(0, I_n) the mass in the span of c eigenvectors is |P z|^2 / |z|^2. Over m starts the mean of those,
   weighted by |z|^2, is chi^2_mc / (chi^2_mc + chi^2_m(n-c)) ~ Beta(m c / 2, m (n - c) / 2). The counts c under which
   the masses of 1. are too rare are excluded (Clopper and Pearson 1934).
3. By Cauchy's interlacing, as many eigenvalues are left of x as Ritz values, or more.

Rounding: the coefficients are those of a matrix A + E, |E| <= `Quadrature.rounding`, taken as one that does not know
the start. By Weyl's inequality A has as many eigenvalues left of x as A + E has left of x - |E|, or more, and so on.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from phoneme.curvature.density import Quadrature, gauss
from phoneme.curvature.inertia import dense, inertia, rounding_of
from phoneme.curvature.lanczos import Matrix
from phoneme.errors import InputError

FAR = 8.0  # times the matrix: a last diagonal entry beyond it would drown the others' digits
# Backward error of a symmetric eigensolver on k x k, in k |T| eps: p(n) of LAPACK Users' Guide, section 4.7, is
# "a modestly growing function". The last diagonal entry adds FAR to |T|.
SOLVER_ROUNDINGS = 2 * FAR


@dataclass(frozen=True)
class Share:
    """Of all eigenvalues, from `low` to `high`."""

    low: float
    high: float


@dataclass(frozen=True)
class MinimumRatio:
    """Shares of the eigenvalues above `tolerance`, within it, and below -`tolerance`.

    All three contain the truth together, except with probability `failure` over the random starts. `exact`: each
    is one number, low = high, and failure 0. Eigenvalues within rounding of +-tolerance may be counted on either side.
    """

    positive: Share
    zero: Share
    negative: Share
    tolerance: float
    exact: bool
    failure: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def exact_ratio(matrix: Matrix | Float[Tensor, "n n"], tolerance: float = 0.0) -> MinimumRatio:
    """By the inertia of the dense matrix: n products and n^3 float64 operations, 2 minutes for n = 10,000 on one core.

    The tolerance is raised to rounding, below which a zero would get a sign by chance: that of the factorisation and,
    for products, twice sqrt(n) times the asymmetry they have (the norm of random errors of that size, within a factor
    of 2).
    """
    full, asymmetry = (matrix, 0.0) if isinstance(matrix, Tensor) else dense(matrix)
    counts = inertia(full, max(tolerance, rounding_of(full) + 2 * math.sqrt(len(full)) * asymmetry))
    return _exact(counts.positive, counts.negative, len(full), counts.tolerance)


def ratio_of(eigenvalues: Float[Tensor, " n"], tolerance: float) -> MinimumRatio:
    """From all eigenvalues.

    >>> ratio_of(torch.tensor([3.0, 1.0, 0.1, -2.0]), 0.5).to_dict()["positive"]
    {'low': 0.5, 'high': 0.5}

    Raises InputError for a negative tolerance.
    """
    _check(tolerance)
    return _exact(
        int((eigenvalues > tolerance).sum()), int((eigenvalues < -tolerance).sum()), len(eigenvalues), tolerance
    )


def ratio_interval(rules: Sequence[Quadrature], size: int, tolerance: float, failure: float = 1e-3) -> MinimumRatio:
    """From quadrature rules of a matrix of `size` rows. Four one-sided bounds, each with a fourth of `failure`.

    The counts left of -tolerance, of A and of -A, are bounded from both sides; what they leave is zero.
    It is exact where a run filled the whole space. How wide it is depends on the mass near +-tolerance: k steps tell
    eigenvalues apart that are further than about pi / k of the range away from each other.

    Raises InputError for no rules, a negative tolerance, or a failure that is not between 0 and 1.
    """
    _check(tolerance)
    if not rules:
        raise InputError(expected="at least one rule", got="none", where="quadratures", hint="4 probes are the default")
    if not 0 < failure < 1:
        raise InputError(
            expected="a probability between 0 and 1",
            got=failure,
            where="failure",
            hint="1e-3: wrong once in a thousand runs",
        )
    mirrored = [replace(rule, alphas=-rule.alphas, nodes=-rule.nodes) for rule in rules]
    sides = [(rules, _certain(rules, size, -tolerance)), (mirrored, _certain(mirrored, size, -tolerance))]
    if all(low == high for _, (low, high) in sides):
        (_, (negative, _)), (_, (positive, _)) = sides
        return _exact(positive, negative, size, tolerance)
    negative, positive = (_likely(side, size, -tolerance, failure / 4, certain) for side, certain in sides)
    positive = min(positive[0], size - negative[0]), positive[1]
    return MinimumRatio(
        positive=Share(positive[0] / size, min(positive[1], size - negative[0]) / size),
        zero=Share(max(size - positive[1] - negative[1], 0) / size, (size - positive[0] - negative[0]) / size),
        negative=Share(negative[0] / size, min(negative[1], size - positive[0]) / size),
        tolerance=tolerance,
        exact=False,
        failure=failure,
    )


def mass_below(rule: Quadrature, x: float) -> tuple[float, float]:
    """Bounds of the measure's mass in (-inf, x), Chebyshev-Markov-Stieltjes; the upper one holds for (-inf, x] too.

    For a closed Krylov space they are what the rule has there, certain up to what lies within rounding of x.
    """
    rounding = _rounding(rule)
    if rule.closed:
        low = float(rule.weights[rule.nodes < x - rounding].sum())
        high = float(rule.weights[rule.nodes <= x + rounding].sum())
    else:
        low = _radau(rule, x - rounding)[0]
        high = sum(_radau(rule, x + rounding))
    return min(low, high, 1.0), min(high, 1.0)


def _radau(rule: Quadrature, x: float) -> tuple[float, float]:
    """Weights left of x and at x, in the Gauss-Radau rule with a node there (Golub 1973).

    x is made an eigenvalue by the last diagonal entry: alpha'_1 = x, alpha'_j+1 = x - beta_j^2 / (alpha'_j - alpha_j).
    It is infinite where x is a Ritz value: then the rule has a node at infinity without mass, and the one of a step
    less, which is the Gauss rule there, says the same. In no case do both have a far entry.
    """
    alphas, betas = rule.alphas.tolist(), rule.betas.tolist()
    norm = float(rule.nodes.abs().max()) + betas[-1] + abs(x)
    last = before = x
    for alpha, beta in zip(alphas, betas, strict=True):
        pivot = last - alpha
        before, last = last, x - beta * beta / (pivot or math.ulp(norm))
    if abs(last) <= FAR * norm:
        nodes, weights = gauss(torch.cat([rule.alphas, torch.tensor([last]).double()]), rule.betas)
    else:
        nodes, weights = gauss(torch.cat([rule.alphas[:-1], torch.tensor([before]).double()]), rule.betas[:-1])
    at = int((nodes - x).abs().argmin())
    return float(weights[:at].sum()), float(weights[at])


def _certain(rules: Sequence[Quadrature], size: int, x: float) -> tuple[int, int]:
    """Bounds of the number of eigenvalues left of x that no chance is in: by the Ritz values left of it and not."""
    left = max(int((rule.nodes < x - _rounding(rule)).sum()) for rule in rules)
    right = max(int((rule.nodes > x + _rounding(rule)).sum()) for rule in rules)
    return left, size - right


def _likely(
    rules: Sequence[Quadrature], size: int, x: float, failure: float, certain: tuple[int, int]
) -> tuple[int, int]:
    """Bounds of the number of eigenvalues left of x, each wrong with probability `failure` at most.

    P(Beta <= s) <= exp(-(m n / 2) KL(c / n, s)) for s <= c / n, and the mirror image (Chernoff's bound; Dasgupta and
    Gupta 2003, lemma 2.2): a sixth wider than the quantiles, and without their series.
    """
    squares = torch.tensor([rule.square for rule in rules], dtype=torch.float64)
    masses = torch.tensor([mass_below(rule, x) for rule in rules], dtype=torch.float64)  # [rule, (low, high)]
    low, high = (squares @ masses / squares.sum()).tolist()
    enough = 2 * math.log(1 / failure) / (len(rules) * size)
    most = _furthest_count(size, high, enough)
    least = size - _furthest_count(size, 1 - low, enough)
    least, most = min(least, certain[1]), max(most, certain[0])
    return max(min(least, most), certain[0]), min(max(least, most), certain[1])


def _furthest_count(size: int, share: float, enough: float) -> int:
    """The largest c with c / size <= share, or KL(c / size, share) <= enough."""
    low, high = min(max(math.floor(size * share), 0), size), size + 1  # low is possible, high is not
    while high - low > 1:
        middle = (low + high) // 2
        if _divergence(middle / size, share) <= enough:
            low = middle
        else:
            high = middle
    return low


def _divergence(p: float, q: float) -> float:
    """KL of two coins, p >= q."""
    if q <= 0 or p <= q:
        return 0.0 if p <= q else math.inf
    return p * math.log(p / q) + ((1 - p) * math.log((1 - p) / (1 - q)) if p < 1 else 0.0)


def _rounding(rule: Quadrature) -> float:
    """The rule's own, and that of the decompositions here."""
    solver = SOLVER_ROUNDINGS * len(rule.nodes) * torch.finfo(torch.float64).eps
    return rule.rounding + solver * float(rule.nodes.abs().max())


def _exact(positive: int, negative: int, size: int, tolerance: float) -> MinimumRatio:
    shares = (Share(count / size, count / size) for count in (positive, size - positive - negative, negative))
    return MinimumRatio(*shares, tolerance=tolerance, exact=True, failure=0.0)


def _check(tolerance: float) -> None:
    if not tolerance >= 0:
        raise InputError(
            expected="a tolerance of 0 or more",
            got=tolerance,
            where="tolerance",
            hint="eigenvalues in [-tolerance, tolerance] count as zero",
        )
