import math

import pytest
import torch

from phoneme.curvature.bounds import furthest, jacobi, likely_share


@pytest.mark.parametrize("block", [1, 2, 3, 16])
@pytest.mark.parametrize("size", [4, 40, 400])
@pytest.mark.parametrize("failure", [0.2, 0.02])
def test_a_random_block_has_less_of_a_vector_no_more_often_than_stated(block, size, failure):
    if block >= size:
        assert likely_share(block, block, failure) == 1.0
        return
    generator = torch.Generator().manual_seed(0)
    squares = torch.randn(20_000, size, generator=generator).square()
    shares = squares[:, :block].sum(dim=1) / squares.sum(dim=1)
    rate = (shares < likely_share(size, block, failure)).double().mean().item()
    assert rate < failure + 4 * math.sqrt(failure / 20_000)
    if block == 1 and size > 4:
        assert rate > 0.9 * failure  # and for a single vector it is sharp


def test_the_bound_is_reached_by_the_measure_that_has_all_it_may_at_one_point():
    """A measure on m + 1 points is determined by its 2 m moments: the last point is exactly the bound."""
    points = torch.tensor([-1.0, 0.3, 0.5, 2.0], dtype=torch.float64)
    weights = torch.tensor([0.3, 0.3, 0.399, 0.001], dtype=torch.float64)
    krylov = torch.stack([points**power * weights.sqrt() for power in range(4)], dim=1)
    q = torch.linalg.qr(krylov).Q
    alphas, betas = jacobi(q.T @ torch.diag(points) @ q, start=1, steps=3, floor=1e-300)
    assert furthest(alphas, betas, 0.001) == pytest.approx(2.0, rel=1e-12)
    assert furthest(alphas, betas, 0.002) < 2.0 < furthest(alphas, betas, 0.0005)


def test_the_christoffel_sum_is_never_wider_than_the_last_lanczos_polynomial():
    generator = torch.Generator().manual_seed(0)
    for size in range(1, 12):
        alphas = torch.randn(size, generator=generator, dtype=torch.float64)
        betas = torch.rand(size, generator=generator, dtype=torch.float64) + 0.1
        off = betas[:-1]
        ritz = torch.linalg.eigvalsh(torch.diag(alphas) + torch.diag(off, 1) + torch.diag(off, -1))
        bound = furthest(alphas.tolist(), betas.tolist(), 1e-6)
        p_last = ((bound - ritz).log().sum() - betas.log().sum()).exp().item()  # det(t - T) / prod beta
        assert bound > ritz[-1] and p_last <= 1e3 * (1 + 1e-9)


def test_a_closed_space_leaves_no_room():
    assert furthest([1.0, 2.0], [0.5, 1e-300], 1e-9) == pytest.approx(1.5 + math.sqrt(0.5), rel=1e-14)


def test_the_coefficients_of_one_vector_are_the_projection_itself():
    alphas = torch.randn(6, dtype=torch.float64)
    betas = torch.rand(5, dtype=torch.float64) + 0.5
    found = jacobi(torch.diag(alphas) + torch.diag(betas, 1) + torch.diag(betas, -1), 1, 5, 1e-300)
    torch.testing.assert_close(torch.tensor(found[0], dtype=torch.float64), alphas[:5])
    torch.testing.assert_close(torch.tensor(found[1], dtype=torch.float64), betas)
