import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from phoneme.losses import IGNORE
from phoneme.metrics import FrameMetrics, MeanLoss, at_boundary

CLASSES = 5
SILENCE = frozenset({0, 1})


def random_frames(frames: int, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(frames, CLASSES, generator=generator)
    targets = torch.randint(CLASSES, (frames,), generator=generator)
    targets[torch.rand(frames, generator=generator) < 0.2] = IGNORE
    return logits, targets, torch.rand(frames, generator=generator) < 0.4


def brute_force(logits, targets, boundary, bins=15) -> dict[str, float]:
    """The same scores, frame by frame in float64."""
    keep = [index for index, target in enumerate(targets.tolist()) if target != IGNORE]
    p = logits.double().softmax(dim=1).numpy()[keep]
    truth, edge = targets.numpy()[keep], boundary.numpy()[keep]
    right, confidence = p.argmax(axis=1) == truth, p.max(axis=1)
    error = 0.0
    for index in range(bins):
        inside = (index / bins < confidence) & (confidence <= (index + 1) / bins)
        if inside.any():
            error += inside.sum() / len(keep) * abs(right[inside].mean() - confidence[inside].mean())
    return {
        "accuracy": right.mean(),
        "accuracy_without_silence": right[[int(label) not in SILENCE for label in truth]].mean(),
        "accuracy_at_boundaries": right[edge].mean(),
        "accuracy_at_centres": right[~edge].mean(),
        "calibration_error": error,
    }


def scores(metric: FrameMetrics) -> dict[str, float]:
    return {name: value.item() for name, value in metric.compute().items()}


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_scores_equal_brute_force(bins):
    metric = FrameMetrics(CLASSES, SILENCE, bins=bins)
    frames = random_frames(3000)
    for part in zip(*(tensor.split(700) for tensor in frames), strict=True):
        metric.update(*part)
    assert scores(metric) == pytest.approx(brute_force(*frames, bins=bins), rel=1e-6)


def test_confusion_has_the_truth_in_rows_and_recall_is_its_diagonal():
    metric = FrameMetrics(3, frozenset())
    logits = torch.eye(3)[[0, 1, 1, 2, 0]]  # predictions
    metric.update(logits, torch.tensor([0, 0, 1, 1, IGNORE]), torch.zeros(5, dtype=torch.bool))
    assert metric.confusion.tolist() == [[1, 1, 0], [0, 1, 1], [0, 0, 0]]
    assert np.array_equal(metric.recall.numpy(), [0.5, 0.5, np.nan], equal_nan=True)


def test_states_of_two_processes_add_up_to_the_state_of_one():
    """What a distributed run does: every state is summed, and the sum is exact whatever the parts are."""
    frames = random_frames(1001)
    whole, left, right = (FrameMetrics(CLASSES, SILENCE) for _ in range(3))
    whole.update(*frames)
    left.update(*(tensor[:300] for tensor in frames))
    right.update(*(tensor[300:] for tensor in frames))
    for name, reduce in left._reductions.items():
        merged = reduce(torch.stack([getattr(left, name), getattr(right, name)]))
        assert torch.equal(merged, getattr(whole, name))
    left.merge_state(right)
    assert scores(left) == scores(whole)


def test_confusion_of_one_process_is_not_taken_for_that_of_all():
    metric = FrameMetrics(CLASSES, SILENCE)
    metric.distributed_available_fn = lambda: True
    with pytest.raises(AssertionError, match="sync_context"):
        _ = metric.confusion
    alone = FrameMetrics(CLASSES, SILENCE, sync_on_compute=False)
    alone.distributed_available_fn = lambda: True
    assert alone.confusion.sum() == 0


def test_shares_over_no_frames_are_nan():
    metric = FrameMetrics(CLASSES, SILENCE)
    metric.update(torch.zeros(4, CLASSES), torch.zeros(4, dtype=torch.long), torch.zeros(4, dtype=torch.bool))
    result = scores(metric)
    assert [name for name, value in result.items() if np.isnan(value)] == [
        "accuracy_without_silence",
        "accuracy_at_boundaries",
    ]
    metric.reset()
    metric.update(torch.zeros(2, CLASSES), torch.full((2,), IGNORE), torch.ones(2, dtype=torch.bool))
    assert np.isnan(list(scores(metric).values())).all()


def test_reset_forgets():
    metric, fresh = FrameMetrics(CLASSES, SILENCE), FrameMetrics(CLASSES, SILENCE)
    metric.update(*random_frames(50, seed=1))
    metric.reset()
    for each in (metric, fresh):
        each.update(*random_frames(50, seed=2))
    assert scores(metric) == scores(fresh)


def test_reset_in_inference_mode_does_not_lock_the_state():
    metric = FrameMetrics(CLASSES, SILENCE)
    with torch.inference_mode():
        metric.reset()
    metric.update(*random_frames(50))
    assert metric.confusion.sum() > 0


def test_certain_and_right_has_no_calibration_error_and_certain_and_wrong_has_one():
    sure = torch.tensor([[100.0, 0.0], [100.0, 0.0]])
    centre = torch.zeros(2, dtype=torch.bool)
    for target, error in ((0, 0.0), (1, 1.0)):
        metric = FrameMetrics(2, frozenset())
        metric.update(sure, torch.full((2,), target), centre)
        assert metric.compute()["calibration_error"].item() == error


def test_logits_that_are_nan_do_not_spoil_the_counts():
    metric = FrameMetrics(2, frozenset())
    metric.update(torch.full((3, 2), torch.nan), torch.tensor([0, 1, 1]), torch.zeros(3, dtype=torch.bool))
    assert metric.confusion.sum() == 3
    assert 0 <= metric.compute()["calibration_error"] <= 1


def test_half_precision_logits():
    logits, targets, boundary = random_frames(500)
    metric = FrameMetrics(CLASSES, SILENCE)
    metric.update(logits.bfloat16(), targets, boundary)
    assert scores(metric) == pytest.approx(brute_force(logits.bfloat16(), targets, boundary), rel=1e-6)


def test_refuses_a_silence_that_is_no_class():
    with pytest.raises(AssertionError):
        FrameMetrics(CLASSES, {CLASSES})


@given(
    st.lists(st.lists(st.integers(0, 2), max_size=8), max_size=6),
    st.sampled_from([torch.uint8, torch.long]),
)
def test_boundaries_equal_a_loop_over_utterances(utterances, dtype):
    expected = []
    for labels in utterances:
        for index, label in enumerate(labels):
            neighbours = labels[max(index - 1, 0) : index + 2]
            expected.append(any(other != label for other in neighbours))
    offsets = torch.tensor([0, *np.cumsum([len(labels) for labels in utterances], dtype=int)])
    flat = torch.tensor([label for labels in utterances for label in labels], dtype=dtype)
    assert at_boundary(flat, offsets).tolist() == expected


def test_the_mean_loss_weighs_batches_by_their_frames():
    metric = MeanLoss()
    metric.update(torch.tensor(1.0), torch.tensor([3, 3, 3, IGNORE]))
    metric.update(torch.tensor(2.0), torch.tensor([3]))
    assert metric.compute() == 1.25


def test_one_batch_that_is_nan_shows_in_the_mean_loss():
    metric = MeanLoss()
    metric.update(torch.tensor(float("nan")), torch.tensor([1]))
    metric.update(torch.tensor(2.0), torch.tensor([3]))
    assert metric.compute().isnan()
