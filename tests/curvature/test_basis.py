import pytest
import torch

from phoneme.curvature.basis import Basis, inner, norms

CPU = torch.device("cpu")


def test_inner_products_have_the_digits_of_float64():
    vectors = torch.rand(2, 200_000, generator=torch.Generator().manual_seed(0)) + 10
    truth = vectors.double() @ vectors.double().T
    torch.testing.assert_close(inner(vectors, vectors), truth, rtol=1e-13, atol=0)
    torch.testing.assert_close(norms(vectors), truth.diagonal().sqrt(), rtol=1e-13, atol=0)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
def test_a_basis_stays_orthonormal_when_vectors_are_almost_in_it(dtype, error):
    generator = torch.Generator().manual_seed(0)
    basis = Basis(1000, dtype, CPU)
    vector = torch.randn(1, 1000, generator=generator, dtype=torch.float64).to(dtype)
    for _ in range(70):  # more than two chunks
        basis.project_out(vector)
        rows, _, _ = basis.orthonormal(vector, 0.0)
        basis.append(rows)
        vector = rows + 1e-3 * torch.randn(1, 1000, generator=generator, dtype=torch.float64).to(dtype)
    rows = basis.combine(torch.eye(70, dtype=torch.float64))
    assert (inner(rows, rows) - torch.eye(70)).abs().max() < error


def test_projection_gives_the_coordinates_back():
    basis = Basis(50, torch.float64, CPU)
    basis.append(torch.linalg.qr(torch.randn(50, 40, dtype=torch.float64)).Q.T)
    vectors = torch.randn(3, 50, dtype=torch.float64)
    rest = vectors.clone()
    coordinates = basis.project_out(rest)
    assert basis.combine(coordinates).add(rest).sub(vectors).abs().max() < 1e-14
    assert basis.project_out(rest).abs().max() < 1e-14


def test_a_block_that_is_rank_deficient_shrinks():
    independent = torch.randn(2, 30, dtype=torch.float64)
    block = torch.cat([independent, independent.sum(dim=0, keepdim=True), torch.zeros(1, 30)])
    rows, factor, dropped = Basis(30, torch.float64, CPU).orthonormal(block.clone(), 1e-12)
    assert rows.shape == (2, 30) and dropped < 1e-13
    torch.testing.assert_close(factor.T @ rows, block, rtol=0, atol=1e-13)
