"""Where the extreme eigenvalue itself can be, given a Lanczos run from a random start.

A small residual says that an eigenvalue is near, not that it is the extreme one: that may be hidden, if the start is
nearly orthogonal to its eigenvector x. A random start hardly ever is. Let mu be the spectral measure of the start v,
with mass (x^T v)^2 at lambda_max, and p_0 .. p_k its orthonormal (Lanczos) polynomials. For every polynomial p of
degree k or less, the integral of p^2 is at least p(lambda_max)^2 (x^T v)^2, so

    (x^T v)^2 <= 1 / sum_j p_j(lambda_max)^2,

the Christoffel function. Right of the Ritz values the sum grows: where it passes 1 / delta^2 the bound is
reached, unless |x^T v| < delta. Van Dorsselaer, Hochstenbach and van der Vorst 2000 take p_k alone;
the sum costs the same, and is never worse.
"""

import math

import torch
from jaxtyping import Float64
from torch import Tensor

STABLE_STEPS = 40  # measured: coefficients off by 3e-8 after 60 steps on evenly spaced eigenvalues, by 0.1 after 100
HALVINGS = 200  # more than float64 has digits: the bisection ends where nothing lies between


def likely_share(size: int, block: int, failure: float) -> float:
    """delta^2: below it lies |V^T x|^2, for a unit vector x, with probability `failure` at most.

    V has `block` orthonormal columns of random direction in `size` dimensions, so |V^T x|^2 ~ Beta(a, b) with
    a = block / 2, b = (size - block) / 2, and P(share < s) <= c s^a / (a B(a, b)): the density is at most
    c s^(a-1) / B(a, b), c = 1 for b >= 1, and c = sqrt(2) for b = 1/2 where s <= 1/2.

    >>> round(likely_share(2, 1, 0.01), 6)  # x^T v = cos(angle): exactly sin(0.01 pi / 2)^2 = 0.000247
    0.000123
    """
    a, b = block / 2, (size - block) / 2
    if b <= 0:
        return 1.0
    log_beta = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    slack = 1.0 if b >= 1 else math.sqrt(2)
    return min(0.5, math.exp((math.log(failure * a / slack) + log_beta) / a))


def jacobi(projected: Float64[Tensor, "k k"], start: int, steps: int, floor: float) -> tuple[list[float], list[float]]:
    """Recurrence coefficients (alpha_1 .. alpha_m, beta_1 .. beta_m), m <= steps, of the start block's measure.

    `projected` is the projection of the matrix on a (block) Krylov space whose first `start` vectors are the
    start block. The measure is the mean over them. For one vector the coefficients stand in `projected`. For a
    block they are those of the scalar measure with nodes theta_i and weights |E_1^T s_i|^2 / start, by Lanczos on
    diag(theta): that loses digits with every step (Gragg and Harwood 1984), so it stops at STABLE_STEPS; fewer steps
    only widen a bound. It ends early when the remainder falls to `floor`, and no beta is below it, likewise.
    """
    if start == 1:
        alphas = projected.diagonal()[:steps].tolist()
        betas = [max(abs(beta), floor) for beta in projected.diagonal(-1)[:steps].tolist()]
        return alphas, betas + [floor] * (len(alphas) - len(betas))
    steps = min(steps, STABLE_STEPS)
    nodes, vectors = torch.linalg.eigh(projected)
    current = vectors[:start].square().sum(dim=0).div(start).sqrt()
    current /= current.norm()
    alphas, betas, rows = [], [], [current]
    for _ in range(steps):
        image = nodes * current
        alphas.append(float(image @ current))
        for _ in range(2):
            known = torch.stack(rows)
            image = image - (known @ image) @ known
        length = float(image.norm())
        betas.append(max(length, floor))
        if length <= floor:
            break
        current = image / length
        rows.append(current)
    return alphas, betas


def furthest(alphas: list[float], betas: list[float], mass: float) -> float:
    """The largest t where the measure can have this mass: sum_j p_j(t)^2 <= 1 / mass, right of all Ritz values.

    >>> round(furthest([0.0], [1.0], 0.2), 12)  # p_0 = 1, p_1 = t: 1 + t^2 = 5
    2.0
    """
    off = torch.tensor(betas[:-1], dtype=torch.float64)
    ritz = torch.diag(torch.tensor(alphas, dtype=torch.float64)) + torch.diag(off, 1) + torch.diag(off, -1)
    inside = float(torch.linalg.eigvalsh(ritz)[-1])

    def possible(t: float) -> bool:
        return _log_christoffel(t, alphas, betas) <= -math.log(mass)

    width = max(betas[-1], abs(inside) * 1e-16)
    while width > 0 and possible(inside + width):
        inside, width = inside + width, 2 * width
    outside = inside + width
    for _ in range(HALVINGS):
        middle = 0.5 * (inside + outside)
        if not inside < middle < outside:
            break
        inside, outside = (middle, outside) if possible(middle) else (inside, middle)
    return outside


def _log_christoffel(t: float, alphas: list[float], betas: list[float]) -> float:
    """ln sum_{j=0}^m p_j(t)^2, by p_j / p_{j-1} = s_j / beta_j, s_j = t - alpha_j - beta_{j-1}^2 / s_{j-1}.

    All s_j are positive right of the largest zero of p_m.
    """
    logs, log_p, subtract = [0.0], 0.0, 0.0
    for alpha, beta in zip(alphas, betas, strict=True):
        s = max(t - alpha - subtract, math.ulp(1.0) * beta)
        log_p += math.log(s / beta)
        logs.append(2 * log_p)
        subtract = beta * beta / s
    top = max(logs)
    return top + math.log(sum(math.exp(each - top) for each in logs))
