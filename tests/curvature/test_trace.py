import math

import pytest
import torch

from phoneme.curvature.density import quadratures
from phoneme.curvature.hvp import HessianProducts
from phoneme.curvature.objective import Objective
from phoneme.curvature.trace import Trace, hutch_plus_plus, hutchinson, trace_of
from phoneme.errors import InputError
from phoneme.losses import cross_entropy
from tests.curvature.surfaces import Dense, brute_force, network, ragged_batches, rotated


def slq(matrix: Dense, *, products: int, seed: int) -> Trace:
    return trace_of(quadratures(matrix, probes=products, steps=1, seed=seed), matrix.size)


LOW_RANK_PLUS_SMALL = torch.cat([torch.linspace(1, 10, 8), 1e-3 * torch.randn(192)]).double()


@pytest.mark.parametrize("estimate", [hutchinson, hutch_plus_plus, slq])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_unbiased_and_the_standard_error_is_honest(estimate, dtype):
    """z-scores over 100 seeds: mean 0, and the spread of a t-distribution with 10 degrees of freedom or more."""
    truth = torch.randn(60, generator=torch.Generator().manual_seed(0)).double()
    matrix = Dense(rotated(truth).to(dtype))
    scores = []
    for seed in range(100):
        found = estimate(matrix, products=33, seed=seed)
        assert found.products == 33
        scores.append((found.value - truth.sum().item()) / found.standard_error)
    z = torch.tensor(scores)
    assert abs(z.mean()) < 4 / math.sqrt(100) and 0.6 < z.square().mean() < 1.9
    assert (z.abs() > 4).sum() <= 3


def test_the_variance_is_the_formula_s():
    matrix = rotated(torch.linspace(-1, 2, 40))
    squares, diagonal = matrix.square().sum().item(), matrix.diagonal()
    for estimate, variance in (
        (hutchinson, 2 * (squares - diagonal.square().sum().item())),
        (slq, 2 * (40 * squares - diagonal.sum().item() ** 2) / 42),
    ):
        error = estimate(Dense(matrix), products=2000, seed=0).standard_error
        assert error**2 * 2000 == pytest.approx(variance, rel=0.15)


def test_hutch_plus_plus_is_far_better_where_few_eigenvalues_are_large():
    matrix, truth = Dense(rotated(LOW_RANK_PLUS_SMALL)), LOW_RANK_PLUS_SMALL.sum().item()

    def rms(estimate) -> float:
        return math.sqrt(sum((estimate(matrix, products=36, seed=s).value - truth) ** 2 for s in range(40)) / 40)

    assert rms(hutch_plus_plus) < 0.01 * rms(hutchinson)


@pytest.mark.parametrize(("dtype", "digits"), [(torch.float32, 1e-5), (torch.float64, 1e-13)])
def test_exact(dtype, digits):
    """A diagonal for Hutchinson, a low rank for Hutch++, a matrix smaller than the sketch, and zero."""
    diagonal = torch.diag(torch.linspace(-1, 3, 30, dtype=dtype))
    assert hutchinson(Dense(diagonal), products=2).value == pytest.approx(30, rel=digits)
    low_rank = torch.cat([torch.tensor([3.0, -1.0, 2.0, 0.5]), torch.zeros(96)])
    found = hutch_plus_plus(Dense(rotated(low_rank).to(dtype)), products=15)
    assert found.value == pytest.approx(4.5, rel=digits) and found.standard_error < 10 * digits
    assert found.products == 15
    assert hutch_plus_plus(Dense(diagonal), products=99).value == pytest.approx(30, rel=digits)
    assert hutch_plus_plus(Dense(torch.zeros(9, 9, dtype=dtype)), products=12) == Trace(0.0, 0.0, 12)


def test_the_hessian_of_a_network():
    model, batches = network(), ragged_batches()
    truth = brute_force(model, batches)[2].trace().item()
    products = HessianProducts(Objective(model, cross_entropy, batches))
    for estimate in (hutchinson, hutch_plus_plus):
        products.done = 0
        found = estimate(products, products=60, seed=1)
        assert products.done == found.products == 60
        assert abs(found.value - truth) < 4 * found.standard_error < truth


def test_the_seed_decides_everything():
    matrix = Dense(rotated(torch.linspace(-1, 1, 60)))
    for estimate in (hutchinson, hutch_plus_plus):
        first, again, other = (estimate(matrix, products=10, seed=seed) for seed in (1, 1, 2))
        assert first == again != other
    assert first.to_dict() == {"value": first.value, "standard_error": first.standard_error, "products": 10}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: hutchinson(Dense(torch.eye(3)), products=1), r"(?s)at least 2, got 1.*where: products"),
        (lambda: hutch_plus_plus(Dense(torch.eye(3)), products=3), r"(?s)at least 4, got 3.*where: products"),
        (lambda: hutchinson(Dense(torch.full((3, 3), torch.inf))), r"(?s)finite products, got NaN.*float64"),
        (lambda: hutch_plus_plus(Dense(torch.full((3, 3), torch.nan))), r"(?s)finite products, got NaN"),
        (lambda: trace_of([], 3), r"(?s)at least one rule, got none"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(InputError, match=message):
        call()
