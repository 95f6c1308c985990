"""G3: how large must a batch be for BatchNorm?"""

from functools import partial
from statistics import fmean

import torch
from torch import nn

from phoneme.errors import InputError
from phoneme.lab.bench import Bench
from phoneme.lab.experiment import Experiment, Measured
from phoneme.lab.pictures import Line, Panel, Picture
from phoneme.lab.rates import Run, best, runs_at
from phoneme.lab.rules import Claim, Rule
from phoneme.lab.speech import Frames
from phoneme.wording import digits

FRAMES, HELD_OUT = 4096, 2048
SIZES = (2, 4, 8, 32, 128)
# Rates for a batch of 128; a smaller batch takes the square root of its share of them (Krizhevsky 2014). At 2 the lower
# one is what linear scaling makes of the higher one (Goyal et al. 2017).
RATES = (0.0625, 0.5)
OTHER = "layer"  # Ba et al. 2016: like BatchNorm, but over the units of one vector


def measure(bench: Bench, examples: int | None = None, norm: str = "batch") -> Measured:
    """`norm` is compared with layer normalisation, after equally many examples at each batch size."""
    examples = examples or bench.choose(5120, 15360)
    found: dict[str, dict[int, list[Run]]] = {kind: {size: [] for size in SIZES} for kind in (norm, OTHER)}
    refused = []
    for seed in bench.track(bench.seeds, "small batches"):
        train, val = bench.speech.train(FRAMES, seed), bench.speech.val(HELD_OUT, seed)
        refused.append(float(refuses_one(bench.model(seed, norm=norm), train)))
        for kind, by_size in found.items():
            for size, runs in by_size.items():
                rates = [rate * (size / SIZES[-1]) ** 0.5 for rate in RATES]
                make = partial(bench.model, seed, norm=kind)
                runs.append(best(runs_at(make, train, val, rates, steps=examples // size, batch_size=size, seed=seed)))
    accuracy = {
        kind: {size: [run.accuracy for run in runs] for size, runs in sizes.items()} for kind, sizes in found.items()
    }
    lost = {
        size: [other - own for other, own in zip(accuracy[OTHER][size], accuracy[norm][size], strict=True)]
        for size in SIZES
    }
    return Measured(
        effects={"one_frame": refused, "lost_at_2": lost[2], "lost_at_4": lost[4], "lost_at_128": lost[128]},
        pictures=(_picture(found, norm, fmean(lost[2])),),
        numbers={
            "examples": examples,
            "batch_sizes": list(SIZES),
            "accuracy": accuracy,
            "train_loss": {k: {n: [run.train_loss for run in runs] for n, runs in s.items()} for k, s in found.items()},
            "rate": {k: {n: [run.rate for run in runs] for n, runs in s.items()} for k, s in found.items()},
        },
    )


def refuses_one(model: nn.Module, frames: Frames) -> bool:
    """Is a training pass on a batch of one frame an error?"""
    try:
        model.train()(frames.at(torch.zeros(1, dtype=torch.int64, device=frames.targets.device)).inputs)
    except InputError:
        return True
    return False


def _picture(found: dict[str, dict[int, list[Run]]], norm: str, lost: float) -> Picture:
    def lines(value: str) -> list[Line]:
        return [
            Line(f"norm={kind}", SIZES, [list(row) for row in zip(*_table(sizes, value), strict=True)])
            for kind, sizes in found.items()
        ]

    word = "fewer" if lost > 0 else "more"
    return Picture(
        "batch_sizes",
        f"With batches of 2, norm={norm} has {digits(abs(100 * lost), 2)} points {word} right than norm={OTHER}",
        (
            Panel("batch size (frames)", "validation accuracy", lines("accuracy"), x_log=True),
            Panel("batch size (frames)", "training loss (nats)", lines("train_loss"), x_log=True),
        ),
    )


def _table(sizes: dict[int, list[Run]], value: str) -> list[list[float]]:
    return [[getattr(run, value) for run in runs] for runs in sizes.values()]


EXPERIMENT = Experiment(
    name="small_batches_norm",
    title="BatchNorm with batches of 1 to 128 frames",
    claims={
        "G3": Claim(
            says="BatchNorm needs a batch that is large enough to estimate mean and deviation. With one frame there is "
            "nothing to estimate, and training is refused; with 2 or 4 it is worse than layer normalisation, which "
            "needs no batch, after equally many frames; with 128 it is not.",
            refuted_by="Training on single frames, or an accuracy with batches of 2 or 4 as that of layer "
            "normalisation, or one that is as far below it with 128.",
        )
    },
    rules=(
        Rule("G3", "one_frame", "refuses to train on one frame (1: yes)", above=0.5, exact=True),
        Rule("G3", "lost_at_2", "validation accuracy, layer minus batch normalisation, batches of 2", above=0.02),
        Rule("G3", "lost_at_4", "the same, batches of 4", above=0.02),
        Rule("G3", "lost_at_128", "the same, batches of 128", below=0.02),
    ),
    measure=measure,
)
