import math

import pytest
import torch

from phoneme.decode import agreement, combine, fit_weights, score_ensemble
from phoneme.errors import InputError
from tests.decode.examples import offsets_of, random_log_posteriors

FRAMES, CLASSES = 3000, 5
OFFSETS = offsets_of([100] * 30)


def noisy_members(*noise: float) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Log-posteriors that are right but for noise of so many nats, and the labels."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, CLASSES, (FRAMES,), generator=generator)
    truth = 2 * torch.nn.functional.one_hot(labels, CLASSES)
    members = [truth + n * torch.randn(FRAMES, CLASSES, generator=generator) for n in noise]
    return [member.log_softmax(1) for member in members], labels.to(torch.uint8)


def likelihood(members, labels, weights, average) -> float:
    return float(combine(members, weights, average).gather(1, labels.long()[:, None]).double().mean())


def test_the_two_averages():
    p, q = (random_log_posteriors(20, 4, seed).double() for seed in (0, 1))
    linear = (0.3 * p.exp() + 0.7 * q.exp()).log()
    assert torch.allclose(combine([p, q], [0.3, 0.7], "linear"), linear)
    product = p.exp() ** 0.3 * q.exp() ** 0.7
    assert torch.allclose(combine([p, q], [0.3, 0.7], "log"), (product / product.sum(1, keepdim=True)).log())


@pytest.mark.parametrize("average", ["log", "linear"])
def test_a_member_without_weight_plays_no_part(average):
    p, q = random_log_posteriors(20, 4, 0), torch.nn.functional.one_hot(torch.zeros(20, dtype=torch.int64), 4)
    assert torch.allclose(combine([p, q.float().log()], [1.0, 0.0], average), p, atol=1e-6)


def test_members_are_not_changed():
    p, q = random_log_posteriors(20, 4, 0), random_log_posteriors(20, 4, 1)
    before = p.clone(), q.clone()
    for average in ("log", "linear"):
        combine([p, q], [1.0, 0.0], average)
    assert torch.equal(p, before[0]) and torch.equal(q, before[1])


@pytest.mark.parametrize("average", ["log", "linear"])
def test_fitted_weights_are_the_best_of_a_grid(average):
    members, labels = noisy_members(1.0, 1.6)
    weights = fit_weights(members, labels, average)
    assert sum(weights) == pytest.approx(1) and weights[0] > 0.6
    grid = [likelihood(members, labels, [k / 100, 1 - k / 100], average) for k in range(101)]
    assert likelihood(members, labels, weights, average) >= max(grid) - 1e-5


@pytest.mark.parametrize("average", ["log", "linear"])
@pytest.mark.parametrize("weights", ["equal", "fitted"])
@pytest.mark.parametrize("spoilt", [lambda p: 2 * p, lambda p: p * math.nan], ids=["logits", "nan"])
def test_a_member_that_says_no_probabilities(average, weights, spoilt):
    members, labels = noisy_members(1.0, 1.6)
    members[1] = spoilt(members[1])
    with pytest.raises(InputError, match=r"exponentials sum to 1, got[\s\S]*where: frame 0 of member 2 of"):
        score_ensemble(members, labels, OFFSETS, average=average, weights=weights)


@pytest.mark.parametrize("average", ["log", "linear"])
def test_members_alike_stay_equal_and_a_useless_one_goes(average, monkeypatch):
    monkeypatch.setattr("phoneme.decode.pool.AT_ONCE", 700)
    members, labels = noisy_members(1.0)
    assert fit_weights(members * 3, labels, average) == pytest.approx([1 / 3] * 3)
    misled = -members[0]
    weights = fit_weights([members[0], misled.log_softmax(1)], labels, average)
    assert weights == pytest.approx([1, 0], abs=0.01)


@pytest.mark.parametrize("average", ["log", "linear"])
@pytest.mark.parametrize("weights", ["equal", "fitted"])
def test_independent_errors_are_averaged_out(average, weights):
    members, labels = noisy_members(1.5, 1.5, 1.5)
    score, pooled = score_ensemble(members, labels, OFFSETS, average=average, weights=weights)
    assert score.accuracy == pytest.approx(float((pooled.argmax(1) == labels).double().mean()))
    assert score.gain_over_best_member.low > 0.05
    assert score.gain_over_mean_member.gain == pytest.approx(score.accuracy - sum(score.member_accuracies) / 3)
    assert score.weights == pytest.approx([1 / 3] * 3, abs=0.05)
    assert (score.weights_on_halves is None) == (weights == "equal")
    assert pooled.logsumexp(1).abs().max() < 1e-5


def test_agreement_is_a_share_of_frames():
    one, other = torch.tensor([1, 2, 3, 4], dtype=torch.uint8), torch.tensor([1, 2, 3, 0], dtype=torch.uint8)
    assert agreement([one, other]) == [[1, 0.75], [0.75, 1]]


def test_unknown_words():
    members, labels = noisy_members(1.0, 1.0)
    with pytest.raises(InputError, match=r"linear or log, got lin\n  where: ensemble.average"):
        score_ensemble(members, labels, OFFSETS, average="lin", weights="equal")
    with pytest.raises(InputError, match=r"linear or log, got lin\n  where: ensemble.average"):
        fit_weights(members, labels, "lin")
    with pytest.raises(InputError, match=r"equal or fitted, got fit\n  where: ensemble.weights[\s\S]*did you mean"):
        score_ensemble(members, labels, OFFSETS, average="log", weights="fit")


def test_a_probability_of_zero_in_the_log_average_is_no_nan():
    certain = torch.nn.functional.one_hot(torch.tensor([0, 1]), 3).float().log()
    pooled = combine([certain, certain.roll(1, dims=1)], [0.5, 0.5], "log")
    assert pooled.isfinite().all() and math.isclose(float(pooled.exp().sum()), 2, rel_tol=1e-5)
