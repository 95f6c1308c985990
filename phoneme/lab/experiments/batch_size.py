"""C3: at equal epochs, how well do small and large batches optimise and generalise, and how sharp is where they end?"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any

import torch
from torch import nn

from phoneme.curvature.hvp import HessianProducts
from phoneme.curvature.lanczos import lanczos
from phoneme.curvature.landscape import landscape, random_direction
from phoneme.curvature.objective import Objective
from phoneme.lab.bench import Bench
from phoneme.lab.descent import Score, descend, score
from phoneme.lab.experiment import Experiment, Measured
from phoneme.lab.pictures import Bars, Line, Panel, Picture
from phoneme.lab.rates import best, runs_at
from phoneme.lab.rules import Claim, Rule
from phoneme.lab.speech import Frames
from phoneme.losses import cross_entropy
from phoneme.optim import make_optimizer
from phoneme.wording import digits

SIZES = (8, 64, 512, 4096)  # the last is the full batch
FRAMES = 4096
RATE = 0.1  # of plain descent, for all sizes: the usual first choice
RATES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # that each size may choose from
TUNING_SEED = 1000  # of the runs that choose: another one than those that count
PROBED = 1024  # frames that the surface is looked at on
TOLERANCE, MOST_PRODUCTS = 3e-2, 100  # of lambda_max: the rule speaks of half a doubling
RADII = (0.0, 0.25, 0.5, 0.75, 1.0)  # in lengths of the filters, to both sides: Li et al. 2018 show [-1, 1]
JUDGED = RADII.index(0.5)  # the radius of which the rule speaks
DIRECTIONS = 3
PATIENCE = 800  # updates that the large batch gets at most to come as low
STRIDE = 10  # updates between two looks
NEAR = 0.1  # nats above the goal; from there on each update is looked at


@dataclass(frozen=True)
class Surface:
    """Around the end of a training, on training frames: its loss, lambda_max, the rise along filters' directions."""

    loss: float
    sharpness: float
    rise: list[float]  # of the loss, at each of RADII; the mean over directions and their two sides


@dataclass(frozen=True)
class End:
    """Of a training; a diverged one has a loss that is not finite, and no surface."""

    train: Score
    val: Score
    surface: Surface | None


@dataclass(frozen=True)
class Found:
    """Of one seed: how each size ended, and the largest batch where it came as low as the smallest one ended."""

    ends: dict[int, End]
    level: Surface | None
    level_updates: int


def surface_at(model: nn.Module, frames: Frames, seed: int) -> Surface | None:
    """In evaluation mode, on about PROBED of the frames, evenly taken; None where the loss is not finite."""
    if not math.isfinite(score(model, frames).loss):
        return None
    stride = max(len(frames) // PROBED, 1)
    objective = Objective(model, cross_entropy, [(frames.inputs[::stride], frames.targets[::stride])])
    found = lanczos(
        HessianProducts(objective), top=1, bottom=0, tolerance=TOLERANCE, max_products=MOST_PRODUCTS, seed=seed
    )
    directions = [random_direction(objective, seed + place) for place in range(DIRECTIONS)]
    lines = [landscape(objective, {"random": side * d}, [RADII]).losses for d in directions for side in (1, -1)]
    losses = torch.stack(lines).mean(0)
    return Surface(losses[0].item(), found.top[0].value, (losses - losses[0]).tolist())


def train(bench: Bench, sides: tuple[Frames, Frames], size: int, rate: float, steps: int, seed: int) -> End:
    """Plain descent in batches of `size`, then a look around."""
    model = bench.model(seed)
    optimizer = make_optimizer(model.parameters(), name="sgd", lr=rate)
    descend(model, sides[0], optimizer, steps=steps, batch_size=size, seed=seed)
    return End(score(model, sides[0]), score(model, sides[1]), surface_at(model, sides[0], seed))


def down_to(
    bench: Bench, frames: Frames, size: int, rate: float, loss: float, seed: int, patience: int = PATIENCE
) -> tuple[Surface | None, int]:
    """Where descent in batches of `size` first has this training loss, or at the end of its patience; the updates."""
    model = bench.model(seed)
    optimizer = make_optimizer(model.parameters(), name="sgd", lr=rate)
    done, above = 0, score(model, frames).loss - loss
    while above > 0 and done < patience:
        steps = STRIDE if above > NEAR else 1
        descend(model, frames, optimizer, steps=steps, batch_size=size, seed=seed + done)
        done, above = done + steps, score(model, frames).loss - loss
    return surface_at(model, frames, seed), done


def best_rates(bench: Bench, sizes: Sequence[int], steps: Mapping[int, int], frames: int) -> dict[int, float]:
    """Of each size the rate with the least training loss, on runs and frames that do not count."""
    sides = bench.speech.train(frames, TUNING_SEED), bench.speech.val(frames, TUNING_SEED)

    def tuned(size: int) -> float:
        runs = runs_at(
            partial(bench.model, TUNING_SEED), *sides, RATES, steps=steps[size], batch_size=size, seed=TUNING_SEED
        )
        return best(runs).rate

    return {size: tuned(size) for size in bench.track(sizes, "rates")}


def measure(
    bench: Bench,
    sizes: Sequence[int] = SIZES,
    frames: int = FRAMES,
    updates: int | None = None,
    patience: int = PATIENCE,
) -> Measured:
    """`updates` gives every size so many updates, in place of equal epochs: then larger batches see more frames."""
    epochs = bench.choose(6, 20)
    steps = {size: updates or max(epochs * frames // size, 1) for size in sizes}
    modes = {"same_rate": dict.fromkeys(sizes, RATE), "best_rates": best_rates(bench, sizes, steps, frames)}
    found: dict[str, list[Found]] = {mode: [] for mode in modes}
    for seed in bench.track(bench.seeds, "batch sizes"):
        sides = bench.speech.train(frames, seed), bench.speech.val(frames, seed)
        known: dict[tuple[int, float], End] = {}
        for mode, rates in modes.items():
            for size, rate in rates.items():
                if (size, rate) not in known:
                    known[size, rate] = train(bench, sides, size, rate, steps[size], seed)
            ends = {size: known[size, rate] for size, rate in rates.items()}
            goal, largest = ends[sizes[0]].train.loss, sizes[-1]
            level = down_to(bench, sides[0], largest, rates[largest], goal, seed, patience)
            found[mode].append(Found(ends, *level))
    return Measured(
        effects=_effects(found, sizes),
        pictures=(_equal_epochs(found, sizes), _equal_loss(found, sizes)),
        numbers={
            "frames": frames,
            "updates": steps,
            "rates": modes,
            **{mode: [_numbers(run) for run in runs] for mode, runs in found.items()},
        },
    )


def _effects(found: Mapping[str, list[Found]], sizes: Sequence[int]) -> dict[str, list[float]]:
    effects = {}
    for mode, suffix in (("same_rate", ""), ("best_rates", "_best_rates")):
        pairs = [(run.ends[sizes[0]], run.ends[sizes[-1]]) for run in found[mode]]
        effects["optimises" + suffix] = [large.train.loss - small.train.loss for small, large in pairs]
        effects["generalises" + suffix] = [small.val.accuracy - large.val.accuracy for small, large in pairs]
        levels = [(small.surface, run.level) for (small, _), run in zip(pairs, found[mode], strict=True)]
        for effect, of in (("sharper", lambda at: at.sharpness), ("sharper_filters", lambda at: at.rise[JUDGED])):
            effects[effect + suffix] = [_doublings(*(of(at) if at else math.nan for at in pair)) for pair in levels]
    return effects


def _doublings(small: float, large: float) -> float:
    return math.log2(large / small) if large > 0 and small > 0 else math.nan


def _numbers(run: Found) -> dict[str, Any]:
    ends = {
        size: {
            "training_loss": end.train.loss,
            "training_accuracy": end.train.accuracy,
            "validation_loss": end.val.loss,
            "validation_accuracy": end.val.accuracy,
            "surface": vars(end.surface) if end.surface else None,
        }
        for size, end in run.ends.items()
    }
    return {
        "equal_epochs": ends,
        "largest_batch_as_low_as_the_smallest": {
            "updates": run.level_updates,
            "surface": vars(run.level) if run.level else None,
        },
    }


def _equal_epochs(found: Mapping[str, list[Found]], sizes: Sequence[int]) -> Picture:
    names = {"same_rate": f"rate {RATE:g} for all", "best_rates": "the best rate of each"}
    losses, accuracies, sharpness = (
        {mode: [[of(run.ends[size]) for size in sizes] for run in runs] for mode, runs in found.items()}
        for of in (
            lambda end: end.train.loss,
            lambda end: end.val.accuracy,
            lambda end: end.surface.sharpness if end.surface else math.nan,
        )
    )
    first, last = (
        [digits(fmean(row[place] for row in rows), 2) for rows in losses.values()] for place in (0, len(sizes) - 1)
    )
    message = (
        f"Training loss at equal epochs: batches of {sizes[0]} end at {first[0]}, of {sizes[-1]:,} at {last[0]}; "
        f"each at its best rate, at {first[1]} and {last[1]}"
    )
    panels = (("training loss (nats)", losses), ("validation accuracy", accuracies), ("λ_max at the end", sharpness))
    return Picture(
        "equal_epochs",
        message,
        [
            Panel("batch size (frames)", y, [Line(names[mode], sizes, rows[mode]) for mode in rows], x_log=True)
            for y, rows in panels
        ],
    )


def _equal_loss(found: Mapping[str, list[Found]], sizes: Sequence[int]) -> Picture:
    labels = [f"batch of {size:,}" for size in (sizes[0], sizes[-1])]
    surfaces = {mode: [(run.ends[sizes[0]].surface, run.level) for run in runs] for mode, runs in found.items()}
    sharpness = {
        mode: [[pair[place].sharpness if pair[place] else math.nan for pair in pairs] for place in (0, 1)]
        for mode, pairs in surfaces.items()
    }
    words = [" and ".join(digits(fmean(values), 2) for values in pair) for pair in sharpness.values()]
    rises = [[pair[place].rise for pair in surfaces["same_rate"] if pair[place]] for place in (0, 1)]
    return Picture(
        "equal_loss",
        f"At equal training loss λ_max is {words[0]} for batches of {sizes[0]} and {sizes[-1]:,} at one rate; "
        f"{words[1]} at the best of each",
        (
            Panel(
                "",
                "λ_max of the training loss",
                (
                    Bars(labels, sharpness["same_rate"], f"rate {RATE:g} for both"),
                    Bars(labels, sharpness["best_rates"], "the best rate of each"),
                ),
            ),
            Panel(
                "distance along random directions (lengths of filters)",
                "rise of the training loss (nats)",
                [Line(label, RADII, rise) for label, rise in zip(labels, rises, strict=True) if rise],
                title=f"rate {RATE:g} for both",
            ),
        ),
    )


EXPERIMENT = Experiment(
    name="batch_size",
    title="Small and large batches, at equal epochs",
    claims={
        "C3": Claim(
            says="At equal epochs, and at the same rate as in the lecture, small batches reach a lower training loss "
            "and a higher validation accuracy than large ones. Where both have the same training loss, large batches "
            "are in a sharper place (Keskar et al. 2017): a larger λ_max, a faster rise along directions in lengths of "
            "the filters (Li et al. 2018). The same has to be true when each size has its best rate.",
            refuted_by="A large batch that does as well after as many epochs, or a surface that is no sharper around "
            "it; a difference that a rate of its own takes away.",
        )
    },
    rules=tuple(
        rule
        for suffix, words in (("", f"rate {RATE:g} for both"), ("_best_rates", "each at its best rate"))
        for rule in (
            Rule(
                "C3",
                "optimises" + suffix,
                f"training loss of the largest batch minus that of the smallest, nats; {words}",
                above=0.1,
            ),
            Rule(
                "C3",
                "generalises" + suffix,
                f"validation accuracy of the smallest batch minus that of the largest; {words}",
                above=0.01,
            ),
            Rule(
                "C3",
                "sharper" + suffix,
                f"λ_max of the largest batch over that of the smallest, at equal training loss, in doublings; {words}",
                above=0.5,
            ),
            Rule(
                "C3",
                "sharper_filters" + suffix,
                f"rise of the loss along filters' directions, as λ_max, at {RADII[JUDGED]:g} of their length; {words}",
                above=0.5,
            ),
        )
    ),
    measure=measure,
)
