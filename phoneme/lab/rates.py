"""Each network at its best rate: comparing two at one rate would compare how well the rate suits them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter

import torch
from torch import nn

from phoneme.lab.descent import descend, score
from phoneme.lab.speech import Frames
from phoneme.optim import make_optimizer


@dataclass(frozen=True)
class Run:
    """A training at a rate: its batches' losses, and loss (nats) and accuracy afterwards, in evaluation mode."""

    rate: float
    model: nn.Module
    losses: tuple[float, ...]
    train_loss: float  # infinite if training diverged
    accuracy: float  # on held-out utterances

    @property
    def batch_loss(self) -> float:
        """The mean over the last tenth of the batches, in training mode; infinite if training diverged."""
        last = self.losses[-max(len(self.losses) // 10, 1) :]
        mean = math.fsum(last) / len(last)
        return mean if math.isfinite(mean) else math.inf


def run_at(
    model: nn.Module, train: Frames, val: Frames, rate: float, *, steps: int, batch_size: int | None, seed: int
) -> Run:
    """Train by plain gradient descent at this rate. The model is trained where it is."""
    optimizer = make_optimizer(model.parameters(), name="sgd", lr=rate)
    losses = descend(model, train, optimizer, steps=steps, batch_size=batch_size, seed=seed).losses
    after = score(model, train).loss
    train_loss = after if math.isfinite(after) else math.inf
    return Run(rate, model, tuple(losses.tolist()), train_loss, score(model, val).accuracy)


def runs_at(
    make: Callable[[], nn.Module],
    train: Frames,
    val: Frames,
    rates: Sequence[float],
    *,
    steps: int,
    batch_size: int | None,
    seed: int,
) -> list[Run]:
    """The same network from the same weights, once a rate."""
    return [run_at(make(), train, val, rate, steps=steps, batch_size=batch_size, seed=seed) for rate in rates]


def best(runs: Sequence[Run], by: str = "train_loss") -> Run:
    """The one with the least `train_loss`, or `batch_loss`."""
    return min(runs, key=attrgetter(by))


def largest_rate(runs: Sequence[Run], ignorant: float) -> float:
    """The largest rate that still trains: at least half of the way from `ignorant` nats to the loss of the best.

    If none comes below `ignorant`, the best one.
    """
    least = best(runs).train_loss
    return max(run.rate for run in runs if run.train_loss <= max(least, (ignorant + least) / 2))


def label_entropy(frames: Frames) -> float:
    """Nats: the least loss of an answer that does not look at the input."""
    shares = torch.bincount(frames.targets).double() / len(frames)
    return float(-(shares * shares.clamp(min=1e-300).log()).sum())


def thinned(values: Sequence[float], points: int = 100) -> tuple[list[float], list[float]]:
    """A curve of at most so many points: the middle of each stretch (as an update), and the mean over it."""
    size = math.ceil(len(values) / points)
    stretches = [values[start : start + size] for start in range(0, len(values), size)]
    middles = [place * size + (len(part) - 1) / 2 for place, part in enumerate(stretches)]
    return middles, [math.fsum(part) / len(part) for part in stretches]
