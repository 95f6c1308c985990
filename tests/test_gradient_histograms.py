import math

import pytest
import torch

from phoneme.gradients import gradient_histograms, weight_histograms


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "a.weight": torch.randn(200, 100, generator=generator) * 1e-3,
        "a.bias": torch.randn(200, generator=generator),
        "b.weight": torch.randn(30, generator=generator),
    }


def test_gradients_are_counted_by_the_logarithm_of_their_size(tensors):
    found = gradient_histograms(tensors)
    assert found.keys() == {"a", "b"}
    logs = torch.cat([tensors["a.weight"].flatten(), tensors["a.bias"]]).abs().log10().double()
    counts = torch.histogram(logs, found["a"].edges).hist
    assert found["a"].counts.sum() == 20_200
    assert (found["a"].counts - counts).abs().sum() <= 4  # float32 at an edge
    for share in (0.05, 0.5, 0.95):
        assert found["a"].quantile(share) == pytest.approx(logs.quantile(share).item(), abs=1 / 128)


def test_weights_are_counted_over_their_own_range(tensors):
    found = weight_histograms(tensors)["a"]
    values = torch.cat([tensors["a.weight"].flatten(), tensors["a.bias"]])
    assert (found.low, found.high) == (values.min().item(), values.max().item())
    assert found.counts.sum() == 20_200
    width = (found.high - found.low) / len(found.counts)
    for share in (0.05, 0.5, 0.95):
        assert found.quantile(share) == pytest.approx(values.double().quantile(share).item(), abs=width)


def test_fewer_bins_hold_the_same_counts(tensors):
    found = weight_histograms(tensors)["b"]
    coarse = found.coarse(64)
    assert coarse.counts.sum() == 30 and len(coarse.counts) == 64 and len(coarse.edges) == 65
    values = tensors["b.weight"].double()
    assert torch.equal(coarse.counts, torch.histogram(values, coarse.edges).hist)


def test_zeros_large_ones_and_nan():
    gradient = torch.tensor([0.0, 1e-20, 1e10, math.inf, math.nan, 1.0])
    counts = gradient_histograms({"w": gradient})["w"].counts
    assert (counts[0], counts[-1], counts.sum()) == (2, 2, 5)
    assert math.isnan(gradient_histograms({"w": torch.full((3,), math.nan)})["w"].quantile(0.5))
    assert math.isnan(weight_histograms({"w": torch.full((3,), math.nan)})["w"].quantile(0.5))


def test_a_layer_whose_weights_are_all_equal():
    found = weight_histograms({"w": torch.full((5,), 0.25)})["w"]
    assert found.counts.sum() == 5 and found.quantile(0.5) == 0.25


def test_counts_are_exact_where_float32_stops_counting():
    """One bin takes more than 2^24 entries: torch's own counter would stay there."""
    entries = 2**24 + 100
    assert gradient_histograms({"w": torch.zeros(entries)})["w"].counts[0] == entries


def test_one_read_a_call(tensors, monkeypatch):
    reads = []
    for name in ("tolist", "item", "cpu"):
        original = getattr(torch.Tensor, name)

        def spy(self, *args, _name=name, _original=original):
            reads.append(_name)
            return _original(self, *args)

        monkeypatch.setattr(torch.Tensor, name, spy)
    gradient_histograms(tensors)
    assert reads == ["cpu"]
    reads.clear()
    weight_histograms(tensors)
    assert reads == ["cpu", "tolist", "tolist"]  # of the copy on the CPU
