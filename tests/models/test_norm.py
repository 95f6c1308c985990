import pytest
import torch
from torch import nn

from phoneme.errors import InputError
from phoneme.models import (
    FRAME_NORMS,
    NORMS,
    FrameNorm,
    MaskedBatchNorm,
    count_parameters,
    make_linear,
    make_norm,
)

UNKNOWN = r"(?s)normalization, got instance.*model\.norm.*here: batch, group, layer, none, rms, spectral, weight"


@pytest.fixture
def vectors():
    torch.manual_seed(0)
    return 3.0 + 2.0 * torch.randn(50, 64)


def test_batch_normalizes_each_unit_over_the_batch(vectors):
    normed = make_norm("batch", 64)(vectors)
    expected = (vectors - vectors.mean(dim=0)) / (vectors.var(dim=0, unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(normed, expected)


def test_layer_normalizes_each_vector_over_its_units(vectors):
    normed = make_norm("layer", 64)(vectors)
    torch.testing.assert_close(normed.mean(dim=1), torch.zeros(50), atol=1e-6, rtol=0)
    torch.testing.assert_close(normed.var(dim=1, unbiased=False), torch.ones(50), atol=1e-4, rtol=0)


def test_group_normalizes_each_16_units(vectors):
    groups = make_norm("group", 64)(vectors).reshape(50, 4, 16)
    torch.testing.assert_close(groups.mean(dim=2), torch.zeros(50, 4), atol=1e-6, rtol=0)
    torch.testing.assert_close(groups.var(dim=2, unbiased=False), torch.ones(50, 4), atol=1e-4, rtol=0)


def test_rms_divides_by_the_root_mean_square_and_keeps_the_mean(vectors):
    normed = make_norm("rms", 64)(vectors)
    torch.testing.assert_close(normed, vectors / vectors.square().mean(dim=1, keepdim=True).sqrt())


def test_weight_starts_as_the_plain_layer_and_has_a_length_for_each_row(vectors):
    torch.manual_seed(1)
    plain = make_linear(64, 8, "none")
    torch.manual_seed(1)
    normed = make_linear(64, 8, "weight")
    torch.testing.assert_close(normed(vectors), plain(vectors))
    lengths = normed.parametrizations.weight.original0
    torch.testing.assert_close(lengths[:, 0], plain.weight.norm(dim=1))


def test_spectral_brings_the_largest_singular_value_to_one(vectors):
    torch.manual_seed(1)
    normed = make_linear(64, 8, "spectral")
    for _ in range(100):  # one power iteration each
        normed(vectors)
    assert torch.linalg.matrix_norm(normed.eval().weight, ord=2).item() == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("kind", NORMS)
def test_adds_the_learned_numbers_it_is_listed_with(kind):
    module, linear = make_norm(kind, 32), make_linear(5, 32, kind)
    assert count_parameters(module) + count_parameters(linear) == 5 * 32 + 32 + NORMS[kind] * 32


def test_refuses_unknown_kinds():
    with pytest.raises(InputError, match=UNKNOWN):
        make_norm("instance", 64)
    with pytest.raises(InputError, match=UNKNOWN):
        make_linear(64, 64, "instance")


def test_masked_batch_is_batch_norm_on_the_real_frames():
    torch.manual_seed(0)
    masked, plain = MaskedBatchNorm(6), nn.BatchNorm1d(6)
    for norm in (masked, plain):
        torch.manual_seed(1)
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    frames = 3.0 + 2.0 * torch.randn(4, 9, 6)
    mask = torch.arange(9) < torch.tensor([9, 4, 1, 7])[:, None]
    frames, other = frames.clone().requires_grad_(), frames.clone().requires_grad_()
    for _ in range(3):
        found, expected = masked(frames, mask)[mask], plain(other[mask])
        torch.testing.assert_close(found, expected)
    for one, two in zip(masked.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(one, two)
    (found**3).sum().backward()
    (expected**3).sum().backward()
    torch.testing.assert_close(frames.grad, other.grad)
    torch.testing.assert_close(masked.weight.grad, plain.weight.grad)
    torch.testing.assert_close(masked.eval()(frames, mask)[mask], plain.eval()(other[mask]))


def test_masked_batch_keeps_its_digits_in_half_precision():
    frames = (100.0 + torch.randn(1, 5000, 4)).bfloat16()
    normed = MaskedBatchNorm(4)(frames, torch.ones(1, 5000, dtype=torch.bool))
    assert normed.dtype == torch.bfloat16
    expected = nn.BatchNorm1d(4)(frames[0].float())
    torch.testing.assert_close(normed[0].float(), expected, atol=0.02, rtol=0.01)


@pytest.mark.parametrize("kind", [kind for kind in FRAME_NORMS if kind != "batch"])
def test_frames_are_normalized_each_by_itself(kind, vectors):
    frames, mask = vectors.view(5, 10, 64), torch.ones(5, 10, dtype=torch.bool)
    assert torch.equal(FrameNorm(kind, 64)(frames, mask).view(50, 64), make_norm(kind, 64)(vectors))


def test_frames_have_no_norm_on_weights():
    with pytest.raises(InputError, match=r"(?s)normalization of activations: none, batch.*got spectral.*model=mlp"):
        FrameNorm("spectral", 64)
