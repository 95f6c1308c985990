"""Choosing on one half and scoring on the other; intervals over utterances."""

import math

import pytest
import torch

from phoneme.decode import halves, median_smoothing, paired_gain, right_frames, tune
from phoneme.errors import InputError
from tests.decode.examples import offsets_of, random_log_posteriors


def test_right_frames_by_utterance():
    answer, labels = torch.tensor([1, 2, 3, 4, 5]), torch.tensor([1, 2, 0, 0, 5])
    assert right_frames(answer, labels, torch.tensor([0, 3, 3, 5])).tolist() == [2, 0, 1]


def test_halves_are_disjoint_and_together_everything():
    for count in (2, 3, 17):
        a, b = halves(count)
        assert sorted([*a.tolist(), *b.tolist()]) == list(range(count)) and len(a) - len(b) in (0, 1)
        assert torch.equal(a, halves(count)[0])


def test_a_gain_that_is_the_same_everywhere_is_certain():
    gain = paired_gain(torch.tensor([6, 12, 18]), torch.tensor([5, 10, 15]), torch.tensor([10, 20, 30]))
    assert (gain.gain, gain.low, gain.high) == pytest.approx((0.1, 0.1, 0.1))
    assert str(gain) == "+0.1000 (95 % interval +0.1000 to +0.1000)"


def test_the_interval_has_the_width_of_the_normal_law():
    """Equal lengths: the gain is a mean, whose interval is ± 1.96 standard errors."""
    generator = torch.Generator().manual_seed(0)
    right = torch.randint(0, 100, (400,), generator=generator)
    gain = paired_gain(right, torch.full((400,), 50), torch.full((400,), 100))
    error = float(right.double().std()) / 100 / math.sqrt(400)
    assert (gain.high - gain.low) / (2 * 1.96 * error) == pytest.approx(1, abs=0.06)
    assert gain.low < gain.gain < gain.high


@pytest.mark.parametrize("count", [0, 1])
def test_one_utterance_is_too_few(count):
    ones = torch.ones(count, dtype=torch.int64)
    for ask in (lambda: halves(count), lambda: paired_gain(ones, ones, ones)):
        with pytest.raises(InputError, match=f"at least 2 labelled utterances that were not trained on, got {count}"):
            ask()


def fake(answers: list[torch.Tensor]):
    """A decoder whose setting `n` gives the answer `answers[n]`."""
    return lambda log_posteriors, offsets, n: answers[n]


def test_the_first_of_the_best_is_chosen_and_scored_on_the_other_half():
    offsets = offsets_of([10] * 4)
    labels = torch.zeros(40, dtype=torch.uint8)
    a, _ = (part.tolist() for part in halves(4))
    right_on = [[u in a for u in range(4)], [u not in a for u in range(4)], [u not in a for u in range(4)]]
    answers = [torch.tensor([0 if flag else 1 for flag in flags]).repeat_interleave(10) for flags in right_on]
    posteriors = torch.tensor([0.4, 0.6]).log().expand(40, 2)  # argmax is always wrong
    tuned = tune(fake([a.to(torch.uint8) for a in answers]), {"n": [0, 1, 2]}, posteriors, labels, offsets)
    assert tuned.chosen == {"n": 0} and tuned.chosen_on_halves == ({"n": 0}, {"n": 1})
    assert (tuned.accuracy, tuned.argmax_accuracy, tuned.gain.gain) == (0, 0, 0)  # what a half chose fails on the other
    assert (tuned.tried, tuned.utterances, tuned.frames) == (3, 4, 40)
    assert tuned.to_dict()["gain"] == {"gain": 0.0, "low": 0.0, "high": 0.0}


def test_choosing_among_noise_gains_nothing():
    """Fifty settings that answer at random: the best looks better than chance, its cross-fitted score does not."""
    generator = torch.Generator().manual_seed(0)
    flattered, honest = [], []
    for _ in range(10):
        labels, *answers = (torch.randint(0, 2, (1000,), generator=generator).to(torch.uint8) for _ in range(51))
        posteriors = random_log_posteriors(1000, 2)
        tuned = tune(fake(answers), {"n": list(range(50))}, posteriors, labels, offsets_of([50] * 20))
        flattered.append(float((answers[tuned.chosen["n"]] == labels).double().mean()))
        honest.append(tuned.accuracy)
    assert sum(flattered) / 10 > 0.53  # the largest of fifty: 2.2 deviations of 0.016
    assert sum(honest) / 10 == pytest.approx(0.5, abs=0.015)  # 3 deviations of a mean of ten


def test_a_real_decoder_on_posteriors_that_flicker():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 6, (200,), generator=generator).repeat_interleave(10).to(torch.uint8)
    logits = torch.nn.functional.one_hot(labels.long(), 6) + torch.randn(2000, 6, generator=generator)
    tuned = tune(median_smoothing, {"window": [1, 5]}, logits.log_softmax(1), labels, offsets_of([100] * 20))
    assert tuned.chosen == {"window": 5} and tuned.gain.low > 0.05


def test_an_empty_list_of_values():
    with pytest.raises(InputError, match=r"at least one value to try, got none\n  where: decode.window"):
        tune(median_smoothing, {"window": []}, random_log_posteriors(4, 3), torch.zeros(4).byte(), offsets_of([2, 2]))
