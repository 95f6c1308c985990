"""Median smoothing and argmax, and what is refused in their place."""

import numpy as np
import pytest
import torch

from phoneme.decode import argmax, check_log_posteriors, median_smoothing
from phoneme.errors import InputError
from tests.decode.examples import offsets_of, random_log_posteriors


@pytest.mark.parametrize("window", [1, 3, 7])
def test_equals_a_loop(window, monkeypatch):
    monkeypatch.setattr("phoneme.decode.smoothing.AT_ONCE", 10)
    lengths = [20, 1, 2, 9]
    posteriors, expected = random_log_posteriors(32, 5), []
    for part in posteriors.split(lengths):
        padded = np.pad(part.numpy(), ((window // 2, window // 2), (0, 0)), mode="edge")
        expected += [int(np.median(padded[t : t + window], axis=0).argmax()) for t in range(len(part))]
    assert median_smoothing(posteriors, offsets_of(lengths), window=window).tolist() == expected


def test_a_window_of_one_is_argmax():
    posteriors, offsets = random_log_posteriors(30, 5), offsets_of([10, 20])
    assert torch.equal(median_smoothing(posteriors, offsets, window=1), argmax(posteriors, offsets))


def test_is_the_majority_where_the_network_is_certain():
    posteriors = torch.nn.functional.one_hot(torch.tensor([0, 0, 1, 0, 2, 2, 2]), 3).float().log()
    assert median_smoothing(posteriors, offsets_of([7]), window=3).tolist() == [0, 0, 0, 0, 2, 2, 2]


def test_no_frames():
    assert argmax(torch.empty(0, 3), torch.tensor([0])).shape == (0,)
    assert median_smoothing(torch.empty(0, 3), torch.tensor([0]), window=3).shape == (0,)


@pytest.mark.parametrize("window", [0, 4, -1])
def test_a_window_without_a_centre(window):
    with pytest.raises(InputError, match=rf"an odd number of frames, got {window}\n  where: decode.window"):
        median_smoothing(random_log_posteriors(4, 3), offsets_of([4]), window=window)


@pytest.mark.parametrize("wrong", [torch.zeros(3), torch.full((3,), 1 / 3), torch.full((3,), torch.nan)])
def test_a_frame_that_is_no_distribution_is_named(wrong):
    posteriors = random_log_posteriors(9, 3)
    posteriors[5] = wrong
    with pytest.raises(InputError, match=r"sum to 1, got a sum of .*\n  where: frame 1 of utterance 2"):
        argmax(posteriors, torch.tensor([0, 4, 4, 9]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_rounding_to_half_precision_is_no_error(dtype):
    check_log_posteriors(random_log_posteriors(500, 41).to(dtype), offsets_of([500]))


@pytest.mark.parametrize("offsets", [[0, 3], [1, 4], [0, 3, 2, 4]])
def test_bounds_that_do_not_fit(offsets):
    with pytest.raises(InputError, match="bounds of utterances from 0 to 4"):
        argmax(random_log_posteriors(4, 3), torch.tensor(offsets))
