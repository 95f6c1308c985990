import pytest
import torch

from phoneme.curvature.hvp import HessianProducts
from phoneme.curvature.inertia import dense, inertia
from phoneme.curvature.objective import Objective
from phoneme.errors import InputError
from phoneme.losses import cross_entropy
from tests.curvature.surfaces import brute_force, network, ragged_batches, rotated


def counted(eigenvalues: torch.Tensor, tolerance: float) -> tuple[int, int, int]:
    above, below = int((eigenvalues > tolerance).sum()), int((eigenvalues < -tolerance).sum())
    return above, len(eigenvalues) - above - below, below


def counts(matrix: torch.Tensor, tolerance: float) -> tuple[int, int, int]:
    found = inertia(matrix, tolerance)
    return found.positive, found.zero, found.negative


SPECTRA = {
    "spread": torch.linspace(-1, 2, 60),
    "clustered": torch.cat([torch.full((20,), 1.0), torch.full((20,), 1.0 + 1e-9), torch.full((20,), -1.0)]),
    "singular": torch.cat([torch.zeros(40), torch.linspace(1, 3, 5), torch.linspace(-3, -1, 7)]),
    "graded": torch.cat([10.0 ** torch.arange(-9, 3), -(10.0 ** torch.arange(-9, 3))]),
    "definite": torch.linspace(-3, -1, 33),
}


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("tolerance", [3e-8, 3e-4])
def test_counts_are_those_of_the_spectrum(name, tolerance):
    for seed in range(5):
        matrix = rotated(SPECTRA[name], seed)
        assert counts(matrix, tolerance) == counted(SPECTRA[name].double(), tolerance)
        assert inertia(matrix, tolerance).rounding < 1e-10


def test_counts_are_those_of_eigvalsh_with_many_two_by_two_blocks():
    generator = torch.Generator().manual_seed(0)
    for size in (1, 2, 3, 10, 101):
        for diagonal in (0.0, 1.0):  # without a diagonal every pivot is a block
            half = torch.randn(size, size, generator=generator, dtype=torch.float64)
            matrix = (half + half.T) / 2
            matrix.diagonal().mul_(diagonal)
            assert counts(matrix, 1e-9) == counted(torch.linalg.eigvalsh(matrix), 1e-9)


def test_closed_forms():
    saddle = torch.tensor([[0.0, -2.0], [-2.0, 0.0]])
    assert counts(saddle, 0.0) == (1, 0, 1) and inertia(saddle).minimum_ratio == 0.5
    assert counts(torch.zeros(4, 4), 0.0) == (0, 4, 0)
    assert counts(torch.diag(torch.tensor([1.0, -1.0, 0.5])), 1.0) == (0, 3, 0)  # the edge belongs to zero


def test_a_networks_index():
    model, batches = network(), ragged_batches()
    truth = torch.linalg.eigvalsh(brute_force(model, batches)[2])
    matrix, _ = dense(HessianProducts(Objective(model, cross_entropy, batches, dtype=torch.float64)))
    for tolerance in (1e-9, 1e-3):
        assert counts(matrix, tolerance) == counted(truth, tolerance)


@pytest.mark.parametrize(
    ("matrix", "tolerance", "message"),
    [
        (torch.eye(2), -1.0, r"(?s)tolerance of 0 or more, got -1\.0"),
        (torch.eye(2), float("nan"), r"(?s)tolerance of 0 or more, got nan"),
        (torch.full((2, 2), torch.inf), 0.0, r"(?s)a finite matrix, got NaN or infinity.*the dense Hessian"),
    ],
)
def test_refuses(matrix, tolerance, message):
    with pytest.raises(InputError, match=message):
        inertia(matrix, tolerance)
