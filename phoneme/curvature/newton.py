"""How far the next critical point is, and how much lower: Newton's step in the Krylov space of the gradient."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from phoneme.curvature.basis import Basis, norms
from phoneme.curvature.lanczos import NEGLIGIBLE_ROUNDINGS, Matrix

PRODUCTS = 40  # the gradient's largest parts are met first; what is not met makes the gain a little too small
# Of max |lambda|: in a direction that is flatter the step would be long and Taylor's model not hold. It is what float32
# can leave of a curvature, so that roundings of the gradient promise nothing.
DAMPING = 1e-7


@dataclass(frozen=True)
class NewtonStep:
    """To second order, theta + `step` is critical, and it differs from the loss here by `gain` or less.

    step = -sum_i (g_i / lambda_i) x_i over the eigenvectors x_i with |lambda_i| > damping, and
    gain = 1/2 sum_i g_i^2 / max(|lambda_i|, damping). At a saddle the parts of both signs count as gain.
    """

    step: Float[Tensor, " n"]
    gain: float

    def curvature(self, gradient_norm: float) -> float:
        """The harmonic mean of the |curvatures| that the gradient meets: |g|^2 / (2 gain)."""
        return gradient_norm**2 / (2 * self.gain) if self.gain > 0 else 0.0


def newton_step(matrix: Matrix, gradient: Float[Tensor, " n"], largest: float) -> NewtonStep:
    """By at most PRODUCTS Lanczos steps from the gradient; `largest` is max |lambda|.

    The Krylov space of g is the one that conjugate gradients use (Hestenes and Stiefel 1952); with its Ritz pairs in
    place of eigenpairs the sums have at most PRODUCTS terms.
    """
    length = norms(gradient[None]).item()
    if not length or not largest:
        return NewtonStep(torch.zeros_like(gradient), 0.0)
    basis = Basis(matrix.size, matrix.dtype, matrix.device)
    negligible = NEGLIGIBLE_ROUNDINGS * torch.finfo(matrix.dtype).eps * largest
    row, alphas, betas = gradient[None] / length, [], []
    while len(row) and len(basis) < min(PRODUCTS, matrix.size):
        basis.append(row)
        images = matrix(row)
        alphas.append(float(basis.project_out(images)[0, -1]))
        row, remainder, _ = basis.orthonormal(images, negligible)
        betas.append(float(remainder[0, 0]) if len(row) else 0.0)
    off = torch.tensor(betas[:-1], dtype=torch.float64)
    projected = torch.diag(torch.tensor(alphas, dtype=torch.float64)) + torch.diag(off, 1) + torch.diag(off, -1)
    values, vectors = torch.linalg.eigh(projected)
    parts, sizes = length * vectors[0], values.abs()
    damping = DAMPING * largest
    gain = float((parts.square() / sizes.clamp(min=damping)).sum()) / 2
    steep = torch.where(sizes > damping, parts / values, 0.0)
    return NewtonStep(-basis.combine((vectors @ steep)[None])[0], gain)
