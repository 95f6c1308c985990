"""The best rate, and the largest that trains."""

import math

import pytest
import torch
from torch import nn

from phoneme.lab.rates import Run, best, label_entropy, largest_rate, runs_at, thinned
from phoneme.lab.speech import Frames
from tests.lab.helpers import small_bench

MODEL = nn.Linear(1, 1)


def run(rate: float, train_loss: float, losses: tuple[float, ...] = (1.0,)) -> Run:
    return Run(rate, MODEL, losses, train_loss, 0.5)


def test_the_best_is_the_one_with_the_least_loss():
    runs = [run(0.1, 2.0, (2.0, 1.0)), run(0.2, 1.0, (2.0, 1.5)), run(0.4, math.inf, (2.0, math.nan))]
    assert best(runs).rate == 0.2
    assert best(runs, by="batch_loss").rate == 0.1


def test_the_largest_rate_gets_at_least_half_of_the_way():
    runs = [run(0.1, 2.5), run(0.2, 1.0), run(0.4, 1.9), run(0.8, 2.1), run(1.6, math.inf)]
    assert largest_rate(runs, ignorant=3.0) == 0.4
    assert largest_rate(runs, ignorant=0.5) == 0.2


def test_the_loss_of_the_last_batches_is_that_of_the_last_tenth():
    assert run(0.1, 1.0, (9.0,) * 18 + (1.0, 2.0)).batch_loss == 1.5


def test_a_rate_that_is_far_too_large_has_an_infinite_loss_and_the_others_start_alike():
    bench = small_bench()
    train, val = bench.speech.train(256, 0), bench.speech.val(64, 0)
    runs = runs_at(lambda: bench.model(0), train, val, (0.1, 1e4), steps=20, batch_size=32, seed=0)
    assert runs[0].losses[0] == runs[1].losses[0]
    assert runs[0].train_loss < math.log(41) and runs[1].train_loss > 1e3


def test_the_entropy_of_labels():
    frames = Frames(torch.zeros(8, 1, 1), torch.tensor([0, 0, 0, 0, 2, 2, 5, 5]))
    assert label_entropy(frames) == pytest.approx(1.5 * math.log(2))


def test_a_thinned_curve_has_the_means_of_its_stretches():
    assert thinned([1.0, 3.0, 5.0, 7.0, 9.0], points=3) == ([0.5, 2.5, 4.0], [2.0, 6.0, 9.0])
