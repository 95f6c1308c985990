import math

import pytest
import torch

from phoneme.decode import argmax, count_phones, hmm_decoding
from phoneme.errors import InputError
from tests.decode.examples import offsets_of, random_log_posteriors

LABELS = torch.tensor([0, 0, 0, 1, 1, 0, 2, 2, 2, 2], dtype=torch.uint8)  # two utterances, of 6 and of 4 frames
OFFSETS = torch.tensor([0, 6, 10])


def decode(log_posteriors, lengths, statistics, prior_weight=0.0, transition_weight=0.0, minimum_frames=1):
    return hmm_decoding(
        log_posteriors,
        offsets_of(lengths),
        statistics,
        prior_weight=prior_weight,
        transition_weight=transition_weight,
        minimum_frames=minimum_frames,
    )


def test_counts_of_two_utterances():
    counts = count_phones(LABELS, OFFSETS, 4)
    assert counts.frames.tolist() == [4, 2, 4, 0]
    assert counts.first.tolist() == [1, 0, 1, 0]
    assert counts.follows.nonzero().tolist() == [[0, 1], [1, 0]]  # 0 -> 2 is across the bound
    assert counts.run_classes.tolist() == [0, 1, 0, 2]
    assert counts.run_lengths.tolist() == [3, 2, 1, 4]


def test_a_bound_between_two_runs_of_one_class_ends_a_run():
    counts = count_phones(torch.zeros(5, dtype=torch.uint8), torch.tensor([0, 2, 2, 5]), 2)
    assert counts.run_lengths.tolist() == [2, 3]
    assert counts.first.tolist() == [2, 0] and counts.follows.sum() == 0


def test_probabilities_with_hardly_any_smoothing_are_shares():
    counts = count_phones(LABELS, OFFSETS, 3, smoothing=1e-9)
    assert counts.log_prior.exp().tolist() == pytest.approx([0.4, 0.2, 0.4])
    assert counts.log_first.exp().tolist() == pytest.approx([0.5, 0, 0.5], abs=1e-6)
    # class 0 has runs of 3 and 1 frames and is left once: beyond one frame it stays twice, beyond two once
    assert counts.log_stay(1)[0].exp() == pytest.approx(2 / 3)
    assert counts.log_stay(2)[0].exp() == pytest.approx(1 / 2)
    assert counts.log_move(1)[0].exp().tolist() == pytest.approx([0, 1 / 3, 0], abs=1e-6)


@pytest.mark.parametrize("minimum", [1, 2, 5])
def test_what_may_happen_after_a_frame_sums_to_one(minimum):
    counts = count_phones(LABELS, OFFSETS, 5)
    total = counts.log_stay(minimum).exp() + counts.log_move(minimum).exp().sum(dim=1)
    assert total.tolist() == pytest.approx([1] * 5)
    assert counts.log_prior.exp().sum() == pytest.approx(1)
    assert (counts.log_move(minimum).diagonal() == -math.inf).all()


def test_without_weights_and_minimum_it_is_argmax():
    posteriors, counts = random_log_posteriors(60, 4), count_phones(LABELS, OFFSETS, 4)
    assert torch.equal(decode(posteriors, [50, 10], counts), argmax(posteriors, offsets_of([50, 10])))


def test_the_whole_prior_weight_divides_by_the_prior():
    posteriors, counts = random_log_posteriors(60, 4), count_phones(LABELS, OFFSETS, 4)
    scaled = posteriors.double() - counts.log_prior
    assert torch.equal(decode(posteriors, [60], counts, prior_weight=1.0).long(), scaled.argmax(dim=1))


def test_a_flicker_is_removed():
    truth = torch.tensor([0] * 10 + [1] * 10, dtype=torch.uint8)
    counts = count_phones(truth, torch.tensor([0, 20]), 2)
    probabilities = torch.nn.functional.one_hot(truth.long(), 2) * 0.8 + 0.1
    probabilities[4] = torch.tensor([0.3, 0.7])
    answer = decode(probabilities.log(), [20], counts, transition_weight=1.0, minimum_frames=2)
    assert torch.equal(answer, truth)


def test_a_class_that_was_never_seen_can_still_be_the_answer():
    posteriors = torch.full((5, 4), 0.01).index_fill(1, torch.tensor([3]), 0.97).log()
    counts = count_phones(LABELS, OFFSETS, 4)
    assert counts.frames[3] == 0
    for weight in (0.0, 1.0):
        answer = decode(posteriors, [5], counts, prior_weight=weight, transition_weight=1.0, minimum_frames=2)
        assert answer.tolist() == [3] * 5


def test_probabilities_of_zero_forbid_no_path():
    """A certain network that changes its mind in each frame, against a minimum of two frames."""
    posteriors = torch.nn.functional.one_hot(torch.arange(9) % 3, 3).float().log()
    answer = decode(posteriors, [9], count_phones(LABELS, OFFSETS, 3), transition_weight=1.0, minimum_frames=2)
    assert answer.shape == (9,) and answer.max() < 3


@pytest.mark.parametrize("minimum", [1, 3])
def test_one_frame_one_class_and_none(minimum):
    counts = count_phones(LABELS, OFFSETS, 3)
    options = {"prior_weight": 0.5, "transition_weight": 1.0, "minimum_frames": minimum}
    assert decode(random_log_posteriors(3, 3), [1, 1, 1], counts, **options).shape == (3,)
    assert decode(torch.empty(0, 3), [], counts, **options).shape == (0,)
    single = count_phones(torch.zeros(4, dtype=torch.uint8), torch.tensor([0, 4]), 1)
    assert decode(torch.zeros(4, 1), [4], single, **options).tolist() == [0] * 4


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"prior_weight": -0.1}, r"a weight of 0 or more, got -0.1\n  where: decode.prior_weight"),
        ({"transition_weight": math.nan}, r"got nan\n  where: decode.transition_weight"),
        ({"minimum_frames": 0}, r"at least 1 frame, got 0\n  where: decode.minimum_frames"),
    ],
)
def test_a_setting_out_of_its_range(setting, message):
    with pytest.raises(InputError, match=message):
        decode(random_log_posteriors(4, 3), [4], count_phones(LABELS, OFFSETS, 3), **setting)


def test_statistics_of_other_classes():
    with pytest.raises(InputError, match="statistics of 5 classes, as the posteriors have, got 3"):
        decode(random_log_posteriors(4, 5), [4], count_phones(LABELS, OFFSETS, 3))


def test_logits_are_refused():
    with pytest.raises(InputError, match="in each frame the exponentials sum to 1"):
        decode(torch.zeros(4, 3), [4], count_phones(LABELS, OFFSETS, 3))


@pytest.mark.parametrize("smoothing", [0.0, -1.0, math.nan])
def test_a_smoothing_that_is_none(smoothing):
    with pytest.raises(InputError, match=r"a positive number, got .*\n  where: decode.smoothing"):
        count_phones(LABELS, OFFSETS, 3, smoothing)


def test_no_labels():
    with pytest.raises(InputError, match="labelled training utterances, got none"):
        count_phones(LABELS[:0], torch.tensor([0]), 3)
