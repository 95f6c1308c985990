"""Batch normalization of real frames, batch renormalization, instance normalization: each against its formula."""

import math

import pytest
import torch
from torch import nn

from phoneme.errors import InputError
from phoneme.models import BatchRenorm, FrameNorm, InstanceNorm, MaskedBatchNorm, make_norm
from phoneme.models.over_frames import D_FULL, D_MAX, HELD, R_FULL, R_MAX

LENGTHS = torch.tensor([9, 4, 1, 7])
MASK = torch.arange(9) < LENGTHS[:, None]


def batch(seed: int, padding: float = math.nan, width: int = 6) -> torch.Tensor:
    """Four utterances in float64, of several means and deviations; what is read of their padding spoils the answer."""
    torch.manual_seed(seed)
    frames = torch.randn(4, 1, 1) + (1 + torch.rand(4, 1, width)) * torch.randn(4, 9, width)
    return frames.double().masked_fill(~MASK[:, :, None], padding)


def settled(norm: nn.BatchNorm1d) -> nn.BatchNorm1d:
    """With statistics, scale and shift as after some training."""
    torch.manual_seed(7)
    for tensor, low, high in ((norm.running_mean, -1, 1), (norm.running_var, 0.5, 4), (norm.weight, 0.5, 2)):
        nn.init.uniform_(tensor, low, high)
    nn.init.normal_(norm.bias)
    return norm.double()


def renormed_by_hand(rows: torch.Tensor, norm: BatchRenorm, r_max: float, d_max: float) -> torch.Tensor:
    """Ioffe 2017, algorithm 1, one unit after another; r and d are plain numbers, so that no gradient passes."""
    columns = []
    for unit in range(rows.shape[1]):
        x = rows[:, unit]
        mean, deviation = x.mean(), (x.var(unbiased=False) + 1e-5).sqrt()
        stored_mean, stored = norm.running_mean[unit].item(), math.sqrt(norm.running_var[unit].item() + 1e-5)
        r = min(max(deviation.item() / stored, 1 / r_max), r_max)
        d = min(max((mean.item() - stored_mean) / stored, -d_max), d_max)
        columns.append(((x - mean) / deviation * r + d) * norm.weight[unit] + norm.bias[unit])
    return torch.stack(columns, dim=1)


def test_masked_batch_is_batch_norm_on_the_real_frames():
    torch.manual_seed(0)
    masked, plain = MaskedBatchNorm(6), nn.BatchNorm1d(6)
    for norm in (masked, plain):
        torch.manual_seed(1)
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    frames = 3.0 + 2.0 * torch.randn(4, 9, 6)
    mask = MASK
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


@pytest.mark.parametrize(
    ("batches", "r_max", "d_max"),
    [
        (0, 1.0, 0.0),
        (HELD, 1.0, 0.0),
        ((HELD + D_FULL) // 2, 1.0 + (R_MAX - 1) * 200 / 700, D_MAX / 2),
        (R_FULL, R_MAX, D_MAX),
        (10 * R_FULL, R_MAX, D_MAX),
    ],
)
def test_renorm_is_the_formula_with_the_limits_of_that_batch(batches, r_max, d_max):
    norm, frames = settled(BatchRenorm(6)), batch(0).requires_grad_()
    norm.num_batches_tracked.fill_(batches)
    expected = renormed_by_hand(frames[MASK], norm, r_max, d_max)
    (truth,) = torch.autograd.grad((expected**3).sum(), frames)
    found = norm(frames, MASK)[MASK]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    unmasked = settled(BatchRenorm(6))
    unmasked.num_batches_tracked.fill_(batches)
    torch.testing.assert_close(unmasked(frames[MASK]), expected, rtol=1e-12, atol=1e-12)
    for one, two in zip(norm.buffers(), unmasked.buffers(), strict=True):
        torch.testing.assert_close(one, two)
    (gradient,) = torch.autograd.grad((found**3).sum(), frames)
    torch.testing.assert_close(gradient[MASK], truth[MASK], rtol=1e-10, atol=1e-10)
    assert norm.num_batches_tracked == batches + 1


def test_renorm_clips_both_ways():
    norm = settled(BatchRenorm(6, r_max=1.5, d_max=0.3, warm_up=False))
    rows = 20 * batch(1)[MASK]
    rows[:, :3] /= 1000
    rows.requires_grad_()
    found, expected = norm(rows), renormed_by_hand(rows, settled(BatchRenorm(6)), 1.5, 0.3)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad((normed**3).sum(), rows)[0] for normed in (found, expected)]
    torch.testing.assert_close(*gradients)


def test_renorm_unclipped_does_in_training_what_it_does_in_evaluation():
    norm, rows = settled(BatchRenorm(6, r_max=1e6, d_max=1e6, warm_up=False)), batch(2)[MASK]
    evaluated = norm.eval()(rows)
    torch.testing.assert_close(norm.train()(rows), evaluated)
    plain = settled(nn.BatchNorm1d(6)).eval()
    torch.testing.assert_close(plain(rows), evaluated)


def test_renorm_stores_what_batch_norm_stores():
    norm, plain = settled(BatchRenorm(6)), settled(nn.BatchNorm1d(6, momentum=0.01))
    for seed in range(3):
        norm(batch(seed), MASK), plain(batch(seed)[MASK])
    for one, two in zip(norm.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(one, two)


def test_renorm_goes_on_from_a_checkpoint_in_mid_warmup(tmp_path):
    norm = settled(BatchRenorm(6))
    norm.num_batches_tracked.fill_(HELD + 50)
    norm(batch(3), MASK)
    torch.save(norm.state_dict(), tmp_path / "norm.pt")
    resumed = BatchRenorm(6).double()
    resumed.load_state_dict(torch.load(tmp_path / "norm.pt", weights_only=True))
    for seed in range(3):
        assert torch.equal(norm(batch(seed), MASK)[MASK], resumed(batch(seed), MASK)[MASK])
    fresh = BatchRenorm(6).double()
    assert not torch.equal(norm(batch(0), MASK)[MASK], fresh(batch(0), MASK)[MASK])


@pytest.mark.parametrize("kind", ["batch", "batch_renorm"])
def test_one_vector_has_nothing_to_estimate_from(kind):
    norm = make_norm(kind, 6)
    with pytest.raises(InputError, match=rf"(?s)at least 2 frames in a batch.*got 1.*norm={kind}\n.*model\.norm=layer"):
        norm(torch.zeros(1, 6))
    assert norm.eval()(torch.ones(1, 6)).shape == (1, 6)
    assert norm.train()(torch.randn(2, 6)).isfinite().all()


def test_instance_is_the_formula_for_each_utterance_and_unit():
    norm = InstanceNorm(6).double()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    frames, other = batch(0).requires_grad_(), batch(0).requires_grad_()
    found, expected = norm(frames, MASK)[MASK], []
    for utterance, length in zip(other, LENGTHS.tolist(), strict=True):
        real = utterance[:length]
        centred = real - real.sum(0) / length
        deviation = ((centred**2).sum(0) / length + 1e-5).sqrt()
        expected.append(centred / deviation * norm.weight + norm.bias)
    expected = torch.cat(expected)
    torch.testing.assert_close(found, expected)
    (found**3).sum().backward()
    (expected**3).sum().backward()
    torch.testing.assert_close(frames.grad[MASK], other.grad[MASK])


def test_instance_is_pytorchs_without_padding():
    frames, full = batch(0, padding=1.0), torch.ones_like(MASK)
    plain = nn.InstanceNorm1d(6, affine=True).double()
    torch.testing.assert_close(FrameNorm("instance", 6).double()(frames, full), plain(frames.mT).mT)


def test_instance_knows_no_company_in_training_neither():
    norm = FrameNorm("instance", 6).double().train()
    together = norm(batch(0), MASK)
    for i, length in enumerate(LENGTHS.tolist()):
        alone = norm(batch(0)[i : i + 1, :length], MASK[i : i + 1, :length])
        torch.testing.assert_close(together[i, :length], alone[0])
    assert (together[2, 0] == 0).all()  # one frame: the shift


@pytest.mark.parametrize("kind", ["batch_renorm", "instance"])
def test_keeps_its_digits_in_half_precision(kind):
    frames, mask = (100.0 + torch.randn(1, 5000, 4)).bfloat16(), torch.ones(1, 5000, dtype=torch.bool)
    normed = FrameNorm(kind, 4)(frames, mask)
    assert normed.dtype == torch.bfloat16
    torch.testing.assert_close(normed[0].float(), nn.BatchNorm1d(4)(frames[0].float()), atol=0.02, rtol=0.01)
