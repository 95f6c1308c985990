import logging
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from phoneme.curvature.hvp import HessianProducts
from phoneme.curvature.inertia import dense
from phoneme.curvature.lanczos import Spectrum, lanczos
from phoneme.curvature.objective import Objective
from phoneme.errors import InputError
from phoneme.losses import cross_entropy
from tests.curvature.surfaces import Dense, brute_force, network, ragged_batches, rotated


def values(pairs) -> list[float]:
    return [pair.value for pair in pairs]


@pytest.mark.parametrize("block", [1, 3])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_both_ends_of_a_planted_spectrum(block, dtype, tolerance):
    truth = torch.randn(150, generator=torch.Generator().manual_seed(3), dtype=torch.float64).sort().values
    matrix = Dense(rotated(truth).to(dtype))
    found = lanczos(matrix, top=4, bottom=2, tolerance=tolerance, block=block)
    assert found.converged and not found.complete and found.products < 150
    assert values(found.top) == pytest.approx(truth.flip(0)[:4].tolist(), rel=tolerance)
    assert values(found.bottom) == pytest.approx(truth[:2].tolist(), rel=tolerance)
    for pair in found.top + found.bottom:
        residual = (matrix.matrix.double() @ pair.vector.double() - pair.value * pair.vector.double()).norm().item()
        assert residual <= pair.bound < 20 * tolerance * found.ritz.abs().max()
        assert pair.vector.double().norm().item() == pytest.approx(1, abs=1e-6)


def test_weakest_curvature_is_told_from_the_strongest_rounding():
    for sign in (1, -1):
        truth = torch.cat([torch.linspace(0.1, 1, 79, dtype=torch.float64), torch.tensor([sign * 1e-4])])
        found = lanczos(Dense(rotated(truth)), tolerance=1e-6)
        assert found.bottom[0].value == pytest.approx(sign * 1e-4, rel=1e-6)
        assert found.bottom[0].bound < 1e-5 and (found.smallest.upper < 0) == (sign < 0)


def random_problem(seed: int) -> tuple[torch.Tensor, torch.Tensor, dict]:
    """A spectrum, spread or clustered, in float32 or float64; a few products, so that bounds are put to use."""
    generator = torch.Generator().manual_seed(seed)
    size, steps, kind = (
        int(torch.randint(low, high, (1,), generator=generator)) for low, high in ((3, 100), (4, 16), (0, 4))
    )
    truth = torch.randn(size, generator=generator, dtype=torch.float64)
    if kind == 1:
        truth = truth**5
    elif kind == 2:
        truth = truth.sign() + 1e-3 * truth
    elif kind == 3:
        truth[: size // 2] = 0
    dtype = (torch.float32, torch.float64)[seed % 2]
    block = min(size, 1 + 2 * (seed % 3 == 0))
    stored = truth.to(dtype)
    return stored, stored.double(), {"block": block, "max_products": max(steps, block), "seed": seed}


@pytest.mark.parametrize(("failure", "seeds"), [(0.1, range(800)), (1e-3, range(800, 1600))])
def test_bounds_hold_in_random_problems(failure, seeds, caplog):
    """(a) always; (b) not more often than stated: twice in each problem, with four standard errors of room."""
    missed = 0
    with caplog.at_level(logging.ERROR):
        for seed in seeds:
            stored, truth, options = random_problem(seed)
            found = lanczos(Dense(torch.diag(stored)), failure=failure, **options)
            for pair in found.top + found.bottom:
                assert (truth - pair.value).abs().min() <= pair.bound
            assert found.largest.lower <= truth.max() and truth.min() <= found.smallest.upper
            missed += int(truth.max() > found.largest.upper) + int(truth.min() < found.smallest.lower)
    trials = 2 * len(seeds)
    assert missed <= failure * trials + 4 * math.sqrt(failure * trials)
    if failure == 0.1:
        assert missed > 0  # the test has power: the stated probability is used


@pytest.mark.parametrize("power", [1, 2, 3])
@pytest.mark.parametrize(("block", "products"), [(1, 100), (1, 240), (4, 240)])
def test_dense_spectra_stay_inside_after_many_products(power, block, products):
    """Eigenvalues without gaps: the end converges late, long after a recomputed recurrence has lost its digits."""
    truth = torch.linspace(0, 1, 2500, dtype=torch.float64) ** power
    for seed in range(2):
        found = lanczos(Dense(torch.diag(truth)), max_products=products, block=block, tolerance=1e-12, seed=seed)
        assert found.smallest.lower <= 0.0 <= found.smallest.upper
        assert found.largest.lower <= 1.0 <= found.largest.upper


def test_a_zero_matrix_is_known_at_once():
    found = lanczos(Dense(torch.zeros(500, 500, dtype=torch.float64)), decided=lambda *ends: False)
    assert found.products < 10 and (found.smallest.lower, found.largest.upper) == (0.0, 0.0)


def test_an_unlucky_start_is_inside_the_interval():
    """The extreme is a speck that ten steps do not see, and is not excluded."""
    truth = torch.cat([torch.linspace(-1, 1, 2000, dtype=torch.float64), torch.tensor([1.1])])
    found = lanczos(Dense(torch.diag(truth)), max_products=5, tolerance=0.5)
    assert found.top[0].value < 1.1 < found.largest.upper


def test_bounds_hold_for_networks_in_float32():
    model, batches = network(nn.ReLU), ragged_batches()
    for batchnorm in ("eval", "train"):
        truth = torch.linalg.eigvalsh(brute_force(model, batches, batchnorm=batchnorm)[2])
        for seed in range(10):
            products = HessianProducts(Objective(model, cross_entropy, batches, batchnorm=batchnorm))
            found = lanczos(products, top=5, bottom=2, tolerance=1e-4, seed=seed)
            for pair in found.top + found.bottom:
                assert (truth - pair.value).abs().min() <= pair.bound < 1e-3 * truth[-1]
            assert found.largest.lower <= truth[-1] <= found.largest.upper
            assert found.smallest.lower <= truth[0] <= found.smallest.upper
            assert found.products == products.done


def test_the_lectures_saddle():
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    objective = Objective(model, F.mse_loss, [(torch.ones(1, 1), torch.ones(1, 1))], dtype=torch.float64)
    found = lanczos(HessianProducts(objective))
    assert found.complete and found.products == 2 and found.largest.failure == 0
    assert values(found.top + found.bottom) == pytest.approx([2, -2], rel=1e-14)
    assert found.bottom[0].vector.abs().tolist() == pytest.approx([0.5**0.5] * 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_multiplicity_sixteen_at_the_exact_saddle_of_a_zero_tanh_network(dtype):
    """f = v^T tanh(W x + a) + b at zero: each of the 16 units pairs v_j with W_j, lambda = +-2 |mean(y x)|."""
    inputs = torch.randn(64, 5, generator=torch.Generator().manual_seed(0))
    targets = inputs[:, :1] + 0.3 * inputs[:, 1:2]
    targets -= targets.mean()
    model = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 1))
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    objective = Objective(model, F.mse_loss, [(inputs, targets)], dtype=dtype)
    strength = 2 * (targets * inputs).double().mean(dim=0).norm().item()
    assert objective.gradient().abs().max() < 1e-6
    found = lanczos(HessianProducts(objective), top=18, bottom=18, block=20, tolerance=1e-5)
    for pairs, sign in ((found.top, 1), (found.bottom, -1)):
        near = [value for value in values(pairs) if value == pytest.approx(sign * strength, rel=1e-5)]
        assert len(near) == 16
    assert found.converged and found.products < objective.size


def test_a_closed_space_is_continued_until_there_are_enough_values():
    zero = lanczos(Dense(torch.zeros(30, 30)), top=4, bottom=1)
    assert zero.invariant and zero.converged and zero.products == 5 and not zero.complete
    assert values(zero.top) == [0.0] * 4 and zero.largest.upper < 1e-200
    two = torch.cat([torch.ones(20), -torch.ones(20)]).double()
    found = lanczos(Dense(rotated(two)), top=3, bottom=3)
    assert found.invariant and found.largest.upper == pytest.approx(1) and found.products >= 6
    whole = lanczos(Dense(rotated(torch.arange(6.0))), top=9, bottom=9)
    assert whole.complete and values(whole.top) == pytest.approx([5, 4, 3, 2, 1, 0], abs=1e-13)


def test_one_parameter():
    found = lanczos(Dense(torch.full((1, 1), -3.0)))
    assert found.complete and values(found.top) == values(found.bottom) == [-3.0]


def test_the_seed_decides_everything():
    matrix = Dense(rotated(torch.linspace(-1, 1, 60)))
    first, again, other = (lanczos(matrix, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.ritz, again.ritz) and torch.equal(first.top[0].vector, again.top[0].vector)
    assert not torch.equal(first.top[0].vector, other.top[0].vector)


def test_running_out_of_products_is_said(caplog):
    found = lanczos(Dense(rotated(torch.linspace(-1, 1, 100))), tolerance=1e-12, max_products=10)
    assert isinstance(found, Spectrum) and not found.converged and found.products == 10
    assert "after 10 products the largest wanted residual is" in caplog.text


def test_dense_is_the_matrix_and_measures_asymmetry():
    matrix = rotated(torch.linspace(-1, 1, 70))
    matrix[2, 69] += 1e-3
    found, asymmetry = dense(Dense(matrix), columns=32)
    torch.testing.assert_close(found, (matrix + matrix.T) / 2)
    assert asymmetry == pytest.approx(5e-4)


@pytest.mark.parametrize(
    ("matrix", "options", "message"),
    [
        (torch.eye(3), {"top": 0, "bottom": 0}, r"(?s)at least one value, got 0 and 0.*where: top, bottom"),
        (torch.eye(3), {"tolerance": 0.0}, r"(?s)a positive number, got 0\.0.*tolerance"),
        (torch.eye(3), {"block": 4}, r"(?s)1 to 3 vectors, got 4.*block.*hint: 1 unless"),
        (torch.eye(3), {"block": 2, "max_products": 1}, r"(?s)at least 2, one block, got 1"),
        (torch.eye(3), {"failure": 1.0}, r"(?s)probability between 0 and 1, got 1\.0"),
        (torch.full((3, 3), torch.nan), {}, r"(?s)finite products, got NaN.*product 1.*float64"),
    ],
)
def test_refuses(matrix, options, message):
    with pytest.raises(InputError, match=message):
        lanczos(Dense(matrix), **options)
