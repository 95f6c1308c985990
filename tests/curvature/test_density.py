import json
import math

import pytest
import torch

from phoneme.curvature.density import density_of, gauss, quadratures, spectral_density
from phoneme.curvature.hvp import HessianProducts
from phoneme.curvature.objective import Objective
from phoneme.errors import InputError
from phoneme.losses import cross_entropy
from tests.curvature.surfaces import Dense, brute_force, network, ragged_batches, rotated


def starts(size: int, probes: int, seed: int = 0) -> list[torch.Tensor]:
    """The Gaussian vectors that `quadratures` draws."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(size, generator=generator, dtype=torch.float64) for _ in range(probes)]


def integral(density) -> float:
    return torch.trapezoid(torch.tensor(density.density), torch.tensor(density.grid)).item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_rule_integrates_polynomials_of_twice_its_length(dtype):
    """Gauss: z^T A^d z / |z|^2 for d <= 2 k - 1, and no further."""
    matrix = rotated(torch.randn(60, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    rules = quadratures(Dense(matrix.to(dtype)), probes=3, steps=4)
    error = 1e-4 if dtype == torch.float32 else 1e-11
    for rule, z in zip(rules, starts(60, 3), strict=True):
        assert rule.square == pytest.approx((z @ z).item(), rel=1e-12)
        assert rule.weights.sum().item() == pytest.approx(1, abs=1e-12) and not rule.closed
        for degree in range(9):
            moment = (z @ torch.linalg.matrix_power(matrix, degree) @ z / (z @ z)).item()
            rules_moment = (rule.weights @ rule.nodes**degree).item()
            assert (rules_moment == pytest.approx(moment, rel=error, abs=error)) == (degree < 8)


def test_the_coefficients_are_those_of_a_matrix_within_rounding():
    """Ritz values of a full run are eigenvalues to within `rounding`, in float32 too."""
    truth = torch.randn(40, generator=torch.Generator().manual_seed(2), dtype=torch.float64).sort().values
    for dtype in (torch.float32, torch.float64):
        (rule,) = quadratures(Dense(rotated(truth).to(dtype)), probes=1, steps=99)
        assert rule.closed and len(rule.nodes) == len(rule.alphas) == len(rule.betas) == 40
        assert (rule.nodes - truth).abs().max() <= rule.rounding < 200 * torch.finfo(dtype).eps


def test_a_closed_space_ends_the_run_and_is_the_measure():
    truth = torch.tensor([-1.0] * 20 + [0.0] * 30 + [2.0] * 10).double()
    for dtype in (torch.float32, torch.float64):
        for rule, z in zip(quadratures(Dense(torch.diag(truth).to(dtype)), probes=3), starts(60, 3), strict=True):
            assert rule.closed and len(rule.nodes) == 3
            assert rule.nodes.tolist() == pytest.approx([-1, 0, 2], abs=1e-6)
            masses = [part.square().sum().item() / (z @ z).item() for part in z.split([20, 30, 10])]
            assert rule.weights.tolist() == pytest.approx(masses, rel=1e-5)
    (zero,) = quadratures(Dense(torch.zeros(5, 5)), probes=1)
    assert zero.closed and zero.nodes.tolist() == [0.0] and zero.weights.tolist() == [1.0]


def test_more_probes_begin_with_the_same():
    matrix = Dense(rotated(torch.linspace(-1, 1, 50)))
    two, four, other = (quadratures(matrix, probes=p, steps=5, seed=s) for p, s in ((2, 0), (4, 0), (4, 1)))
    assert all(torch.equal(a.alphas, b.alphas) for a, b in zip(two, four[:2], strict=True))
    assert not torch.equal(four[0].alphas, other[0].alphas)


def test_gauss_legendre():
    """The uniform measure on [-1, 1]: beta_j = j / sqrt(4 j^2 - 1)."""
    j = torch.arange(1.0, 3.0).double()
    nodes, weights = gauss(torch.zeros(3).double(), j / (4 * j**2 - 1).sqrt())
    assert nodes.tolist() == pytest.approx([-math.sqrt(0.6), 0, math.sqrt(0.6)], abs=1e-14)
    assert weights.tolist() == pytest.approx([5 / 18, 8 / 18, 5 / 18])


def test_the_density_is_the_spectrum_s_within_its_standard_error():
    truth = torch.cat([torch.randn(1500, generator=torch.Generator().manual_seed(0)).double(), torch.full((30,), 8.0)])
    matrix = Dense(torch.diag(truth))
    rules = quadratures(matrix, probes=12, steps=60)
    found = spectral_density(rules, sigma=0.25)
    grid, density, error = (torch.tensor(curve) for curve in (found.grid, found.density, found.standard_error))
    exact = torch.exp(-((grid[:, None] - truth) / 0.25).square() / 2).mean(dim=1) / (0.25 * math.sqrt(2 * math.pi))
    assert (found.probes, found.steps, found.sigma) == (12, 60, 0.25)
    assert ((density - exact).abs() <= 5 * error + 1e-3).all()
    seen = exact > 0.05
    assert error[seen].max() < 0.1 and ((density - exact)[seen] / error[seen]).square().mean() < 4


@pytest.mark.parametrize("sigma", [None, 0.05, 2.0])
def test_the_integral_is_one(sigma):
    matrix = Dense(rotated(torch.linspace(-1, 3, 80)))
    assert integral(spectral_density(quadratures(matrix, steps=10), sigma=sigma)) == pytest.approx(1, abs=1e-5)
    assert integral(density_of(torch.linspace(-1, 3, 80), sigma=sigma)) == pytest.approx(1, abs=1e-5)


def test_a_known_spectrum_is_drawn_by_the_same_formula():
    found = density_of(torch.tensor([1.0, 1.0, -1.0]), sigma=0.1, points=101)
    assert max(found.density) == pytest.approx(2 / 3 / (0.1 * math.sqrt(2 * math.pi)), rel=1e-2)
    assert found.grid[0] == pytest.approx(-1.5) and found.grid[-1] == pytest.approx(1.5)
    assert set(found.standard_error) == {0.0} and (found.probes, found.steps) == (0, 3)
    for flat in (torch.zeros(4), torch.full((4,), -7.0)):
        assert integral(density_of(flat)) == pytest.approx(1, abs=1e-5)


def test_the_hessian_of_a_network():
    model, batches = network(), ragged_batches()
    truth = torch.linalg.eigvalsh(brute_force(model, batches)[2])
    products = HessianProducts(Objective(model, cross_entropy, batches, dtype=torch.float64))
    found = spectral_density(quadratures(products, probes=16, steps=30), sigma=0.05)
    assert products.done <= 16 * 30
    exact = density_of(truth, sigma=0.05)
    peak = max(exact.density)
    assert max(found.density) == pytest.approx(peak, rel=0.2)
    assert max(found.standard_error) < 0.1 * peak


def test_json():
    answer = spectral_density(quadratures(Dense(torch.eye(3)), probes=2), points=50, sigma=0.1).to_dict()
    assert json.loads(json.dumps(answer, allow_nan=False)) == answer
    assert list(answer) == ["grid", "density", "standard_error", "sigma", "probes", "steps"]
    assert len(answer["grid"]) == len(answer["density"]) == len(answer["standard_error"]) == 50


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: quadratures(Dense(torch.eye(3)), probes=0), r"(?s)at least 1, got 0.*where: probes"),
        (lambda: quadratures(Dense(torch.eye(3)), steps=0), r"(?s)at least 1, got 0.*where: steps"),
        (lambda: quadratures(Dense(torch.full((3, 3), torch.nan))), r"(?s)finite products.*Lanczos step 1.*float64"),
        (lambda: spectral_density(quadratures(Dense(torch.eye(3)), probes=1)), r"(?s)at least 2 probes, got 1"),
        (lambda: density_of(torch.zeros(0)), r"(?s)at least one eigenvalue, got none"),
        (lambda: density_of(torch.arange(3.0), sigma=1e-3), r"(?s)spacing is at most sigma.*401 points.*more points"),
        (lambda: density_of(torch.arange(3.0), sigma=-1.0), r"(?s)spacing is at most sigma, got sigma=-1"),
        (lambda: density_of(torch.arange(3.0), points=1), r"(?s)spacing is at most sigma.*1 points"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(InputError, match=message):
        call()
