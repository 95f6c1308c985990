"""G2: does BatchNorm train faster, stand larger rates, and make deep sigmoid networks trainable?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import fmean
from typing import Any

from torch import nn

from phoneme.curvature.density import quadratures
from phoneme.curvature.hvp import HessianProducts
from phoneme.curvature.objective import Objective
from phoneme.lab.bench import Bench
from phoneme.lab.experiment import Experiment, Measured
from phoneme.lab.pictures import Bars, Level, Line, Panel, Picture
from phoneme.lab.rates import Run, best, label_entropy, largest_rate, runs_at
from phoneme.lab.rules import Claim, Rule
from phoneme.lab.speech import Frames
from phoneme.losses import cross_entropy
from phoneme.wording import digits

FRAMES, HELD_OUT, PROBE, BATCH = 4096, 2048, 512, 128
# Sigmoid networks of five layers are where Glorot and Bengio 2010 found them stuck, and Ioffe and Szegedy 2015 chose
# sigmoids for the same reason.
NETWORKS = {"relu": {"activation": "relu", "depth": 3}, "sigmoid": {"activation": "sigmoid", "depth": 5}}
RATES = {"relu": tuple(2.0**k for k in range(-4, 5)), "sigmoid": tuple(4.0**k for k in range(-2, 3))}
PROBES, STEPS = 2, 30  # random starts and Lanczos steps of the spectrum


@dataclass
class Side:
    """One network with one norm: per seed the runs at all rates, and what the surface is like at the start."""

    runs: list[list[Run]] = field(default_factory=list)
    largest: list[float] = field(default_factory=list)  # |curvature|
    mean: list[float] = field(default_factory=list)

    @property
    def best(self) -> list[Run]:
        return [best(runs) for runs in self.runs]

    @property
    def steepness(self) -> list[float]:
        """The largest |curvature| over the mean: 1 for a round bowl, the number of parameters if one direction has all.

        The ratio to the smallest would say nothing: some curvatures of a network are 0.
        """
        return [largest / mean for largest, mean in zip(self.largest, self.mean, strict=True)]


def measure(bench: Bench, steps: int | None = None, norm: str = "batch") -> Measured:
    """`norm` is in the networks that are compared with those without."""
    steps = steps or bench.choose(250, 800)
    sides = {name: (Side(), Side()) for name in NETWORKS}
    ignorant = []
    for seed in bench.track(bench.seeds, "BatchNorm"):
        train, val = bench.speech.train(FRAMES, seed), bench.speech.val(HELD_OUT, seed)
        ignorant.append(label_entropy(train))
        for name, pair in sides.items():
            for side, kind in zip(pair, ("none", norm), strict=True):
                make = partial(bench.model, seed, norm=kind, **NETWORKS[name])
                _look(side, make(), train)
                runs = runs_at(make, train, val, RATES[name], steps=steps, batch_size=BATCH, seed=seed)
                side.runs.append(runs)
    (without, normed), (stuck, rescued) = sides["relu"], sides["sigmoid"]
    stood = [
        [largest_rate(runs, nats) for runs, nats in zip(side.runs, ignorant, strict=True)] for side in (without, normed)
    ]
    gained = [a.train_loss - b.train_loss for a, b in zip(without.best, normed.best, strict=True)]
    accuracy = [b.accuracy - a.accuracy for a, b in zip(stuck.best, rescued.best, strict=True)]
    return Measured(
        effects={
            "faster": gained,
            "larger_rates": [math.log2(b / a) for a, b in zip(*stood, strict=True)],
            "sigmoid_accuracy": accuracy,
        },
        pictures=(_by_rate(sides, fmean(ignorant), norm, steps, accuracy), _surface(sides, norm)),
        numbers={
            "updates": steps,
            "label_entropy": ignorant,
            "largest_rate_relu": dict(zip(("none", norm), stood, strict=True)),
            **{name: _numbers(pair, norm) for name, pair in sides.items()},
        },
    )


def _look(side: Side, model: nn.Module, frames: Frames) -> None:
    """The surface at the start by stochastic Lanczos quadrature, BatchNorm with the statistics of these frames."""
    probe = frames.inputs[:PROBE], frames.targets[:PROBE]
    objective = Objective(model, cross_entropy, [probe], batchnorm="train")
    rules = quadratures(HessianProducts(objective), probes=PROBES, steps=STEPS)
    side.largest.append(max(float(rule.nodes.abs().max()) for rule in rules))
    side.mean.append(fmean(float((rule.weights * rule.nodes.abs()).sum()) for rule in rules))


def _numbers(pair: Sequence[Side], norm: str) -> dict[str, Any]:
    return {
        kind: {
            "rates": [run.rate for run in side.runs[0]],
            "train_loss": [[run.train_loss for run in runs] for runs in side.runs],
            "best_rate": [run.rate for run in side.best],
            "best_train_loss": [run.train_loss for run in side.best],
            "best_accuracy": [run.accuracy for run in side.best],
            "largest_curvature_at_the_start": side.largest,
            "mean_curvature_at_the_start": side.mean,
            "largest_over_mean": side.steepness,
        }
        for kind, side in zip(("none", norm), pair, strict=True)
    }


def _by_rate(
    sides: dict[str, tuple[Side, Side]], ignorant: float, norm: str, steps: int, accuracy: Sequence[float]
) -> Picture:
    panels = []
    for name, pair in sides.items():
        lines = [
            Line(f"norm={kind}", RATES[name], _shown(side.runs, 1.5 * ignorant))
            for kind, side in zip(("none", norm), pair, strict=True)
        ]
        panels.append(
            Panel(
                "learning rate",
                f"training loss after {steps} updates (nats)",
                (*lines, Level("without looking at the input", ignorant)),
                title=f"{NETWORKS[name]['depth']} layers, {name}",
                x_log=True,
            )
        )
    gain = f"the deep sigmoid network gains {digits(100 * fmean(accuracy), 2)} points of accuracy"
    return Picture("rates", f"Training loss over the rate, without and with norm={norm}: {gain}", tuple(panels))


def _shown(runs: Sequence[Sequence[Run]], most: float) -> list[list[float | None]]:
    """Training losses by seed and rate; none at a rate where one is above `most`: the mean would leave it out."""
    losses = [[run.train_loss for run in row] for row in runs]
    fine = [max(column) < most for column in zip(*losses, strict=True)]
    return [[loss if ok else None for loss, ok in zip(row, fine, strict=True)] for row in losses]


def _surface(sides: dict[str, tuple[Side, Side]], norm: str) -> Picture:
    bars = [
        Bars(list(sides), [pair[place].steepness for pair in sides.values()], label=f"norm={kind}")
        for place, kind in enumerate(("none", norm))
    ]
    ratios = [fmean(pair[1].steepness) / fmean(pair[0].steepness) for pair in sides.values()]
    said = " and ".join(f"{digits(ratio, 2)} times ({name})" for name, ratio in zip(sides, ratios, strict=True))
    return Picture(
        "surface",
        f"With norm={norm} the largest curvature at the start, over the mean one, is {said} what it is without",
        (Panel("", "largest |curvature| / mean |curvature|", bars),),
    )


EXPERIMENT = Experiment(
    name="batch_norm",
    title="Networks without and with BatchNorm",
    claims={
        "G2": Claim(
            says="With BatchNorm a network has a lower training loss after equally many updates, each at its best "
            "rate; the largest rate at which it still trains is larger; and a sigmoid network of five layers, which "
            "learns nothing without, learns to classify. By plain gradient descent.",
            refuted_by="As low a loss without, the same largest rate, or a deep sigmoid network that stays behind.",
        )
    },
    rules=(
        Rule("G2", "faster", "training loss after equal updates, without minus with, ReLU (nats)", above=0.05),
        Rule("G2", "larger_rates", "doublings of the rate that it still trains with, ReLU", above=0.9),
        Rule("G2", "sigmoid_accuracy", "validation accuracy gained by five sigmoid layers", above=0.1),
    ),
    measure=measure,
)
