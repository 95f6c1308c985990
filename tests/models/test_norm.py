import pytest
import torch

from phoneme.errors import InputError
from phoneme.models import (
    NORMS,
    FrameNorm,
    count_parameters,
    make_linear,
    make_norm,
)

KNOWN = "batch, batch_renorm, group, layer, none, rms, spectral, weight"
UNKNOWN = rf"(?s)a known normalization, got lair.*model\.norm.*did you mean layer\? known here: {KNOWN}"
TIMELESS = r"(?s)single vectors: none, batch, batch_renorm.*got instance.*model\.norm.*no time axis.*model=tcn"


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


@pytest.mark.parametrize(("kind", "message"), [("lair", UNKNOWN), ("instance", TIMELESS)])
def test_refuses_unknown_kinds_and_what_needs_a_time_axis(kind, message):
    with pytest.raises(InputError, match=message):
        make_norm(kind, 64)
    with pytest.raises(InputError, match=message):
        make_linear(64, 64, kind)


def test_utterances_know_instance_too():
    with pytest.raises(
        InputError, match=r"got instanc\n.*[\s\S]*did you mean instance\? known here: batch, batch_renorm"
    ):
        FrameNorm("instanc", 64)


@pytest.mark.parametrize("kind", ["none", "layer", "group", "rms"])
def test_frames_are_normalized_each_by_itself(kind, vectors):
    frames, mask = vectors.view(5, 10, 64), torch.ones(5, 10, dtype=torch.bool)
    assert torch.equal(FrameNorm(kind, 64)(frames, mask).view(50, 64), make_norm(kind, 64)(vectors))


def test_frames_have_no_norm_on_weights():
    with pytest.raises(
        InputError, match=r"(?s)normalization of activations: none, batch.*instance.*got spectral.*model=mlp"
    ):
        FrameNorm("spectral", 64)
