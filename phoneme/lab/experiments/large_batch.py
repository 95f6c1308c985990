"""C4: what makes a large batch work? Each remedy at the best of as many rates, all at equal epochs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from types import MappingProxyType

from torch import nn
from torch.optim.swa_utils import AveragedModel

from phoneme.lab.bench import Bench
from phoneme.lab.descent import Score, descend, score
from phoneme.lab.experiment import Experiment, Measured
from phoneme.lab.pictures import Bars, Panel, Picture
from phoneme.lab.rules import Claim, Rule
from phoneme.lab.speech import Frames
from phoneme.optim import make_optimizer, make_warmup
from phoneme.wording import digits

SMALL, LARGE = 128, 2048
FRAMES, EPOCHS = 8192, 20  # 1280 updates of the small batch, 80 of the large one
WARMUP = 0.25  # share of the updates: the 5 epochs of Goyal et al. 2017, section 2.2, of 20
AVERAGED = 0.5  # the last share of the updates, whose weights are averaged (Izmailov et al. 2018)
FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of a recipe's own rate: what each may choose from
SMALL_RATE = 0.05  # of the small batch, with momentum 0.9, before it chooses
LARS_RATE = 8.0  # with the trust coefficient 0.001 of You et al. 2017: 0.8 % of a weight's norm, before momentum
LAMB_RATE = 0.02  # the length of an update: 2 % of a weight's norm
TUNING_SEED = 1000  # of the runs that choose
REMEDIES = MappingProxyType(
    {
        "warmup": "linear scaling and warm-up",
        "lars": "LARS and warm-up",
        "lamb": "LAMB and warm-up",
        "swa": "linear scaling and SWA",
    }
)
LABELS = MappingProxyType(
    {
        "small": f"batch of\n{SMALL}",
        "plain": "plain",
        "scaled": "scaled\nrate",
        "warmup": "scaled,\nwarm-up",
        "lars": "LARS",
        "lamb": "LAMB",
        "swa": "scaled,\nSWA",
    }
)


@dataclass(frozen=True)
class Recipe:
    """How to train: batches of `size`, an optimizer at about `rate`, a warm-up, the mean of the last weights."""

    size: int
    optimizer: str
    rate: float
    warmup: bool = False
    averaged: bool = False


def recipes(small_rate: float, large: int) -> dict[str, Recipe]:
    """Of a large batch. Linear scaling: the rate grows as the batch (Goyal et al. 2017)."""
    scaled = small_rate * large / SMALL
    return {
        "plain": Recipe(large, "momentum", small_rate),
        "scaled": Recipe(large, "momentum", scaled),
        "warmup": Recipe(large, "momentum", scaled, warmup=True),
        "lars": Recipe(large, "lars", LARS_RATE, warmup=True),
        "lamb": Recipe(large, "lamb", LAMB_RATE, warmup=True),
        "swa": Recipe(large, "momentum", scaled, averaged=True),
    }


def train(model: nn.Module, frames: Frames, recipe: Recipe, rate: float, steps: int, seed: int) -> nn.Module:
    """The trained network; with `averaged`, the one of the mean weights of the last part of the updates."""
    optimizer = make_optimizer(model.parameters(), name=recipe.optimizer, lr=rate)
    warm = max(round(WARMUP * steps), 1)
    mean, first = AveragedModel(model) if recipe.averaged else None, round((1 - AVERAGED) * steps)

    def watch(step: int) -> None:
        if mean is not None and step > first:  # the weights that the update before left
            mean.update_parameters(model)

    schedule = make_warmup(steps=warm) if recipe.warmup else None
    descend(model, frames, optimizer, steps=steps, batch_size=recipe.size, seed=seed, schedule=schedule, watch=watch)
    if mean is None:
        return model
    mean.update_parameters(model)
    return mean.module


def best_rate(bench: Bench, recipe: Recipe, factors: Sequence[float], frames: int, steps: int) -> float:
    """The one with the least training loss, on a run and frames that do not count: nothing held out chooses."""
    sample = bench.speech.train(frames, TUNING_SEED)

    def loss(rate: float) -> float:
        model = train(bench.model(TUNING_SEED, norm="none"), sample, recipe, rate, steps, TUNING_SEED)
        found = score(model, sample).loss
        return found if math.isfinite(found) else math.inf

    return min((factor * recipe.rate for factor in factors), key=loss)


def measure(
    bench: Bench,
    factors: Sequence[float] = FACTORS,
    large: int = LARGE,
    frames: int = FRAMES,
    epochs: int | None = None,
) -> Measured:
    """`plain` has the best rate of the small batch, which linear scaling multiplies; every other recipe its own best.

    Without normalisation, so that an average of weights needs no statistics of its own.
    """
    epochs = epochs or bench.choose(EPOCHS, 2 * EPOCHS)
    steps = {size: max(epochs * frames // size, 1) for size in (SMALL, large)}
    small = Recipe(SMALL, "momentum", SMALL_RATE)
    rates = {"small": best_rate(bench, small, factors, frames, steps[SMALL])}
    plans = {"small": small} | recipes(rates["small"], large)
    rates["plain"] = rates["small"]
    for name in bench.track([name for name in plans if name not in rates], "rates"):
        rates[name] = best_rate(bench, plans[name], factors, frames, steps[large])
    found: dict[str, list[tuple[Score, Score]]] = {name: [] for name in plans}
    for seed in bench.track(bench.seeds, "large batches"):
        sides = bench.speech.train(frames, seed), bench.speech.val(frames // 2, seed)
        for name, plan in plans.items():
            model = bench.model(seed, norm="none")
            model = train(model, sides[0], plan, rates[name], steps[plan.size], seed)
            found[name].append(tuple(score(model, side) for side in sides))
    accuracy = {name: [val.accuracy for _, val in runs] for name, runs in found.items()}
    losses = {name: [side.loss for side, _ in runs] for name, runs in found.items()}
    return Measured(
        effects={f"gain_{name}": _minus(accuracy[name], accuracy["plain"]) for name in REMEDIES},
        pictures=(_picture(accuracy, losses, large),),
        numbers={
            "batch_sizes": {"small": SMALL, "large": large},
            "updates": steps,
            "rates": rates,
            "validation_accuracy": accuracy,
            "training_loss": losses,
            "accuracy_below_the_small_batch": {name: _minus(accuracy["small"], accuracy[name]) for name in REMEDIES},
            "accuracy_over_linear_scaling_alone": {
                name: _minus(accuracy[name], accuracy["scaled"]) for name in ("warmup", "swa")
            },
        },
    )


def _minus(these: Sequence[float], those: Sequence[float]) -> list[float]:
    return [a - b for a, b in zip(these, those, strict=True)]


def _picture(accuracy: Mapping[str, list[float]], losses: Mapping[str, list[float]], large: int) -> Picture:
    small, plain = (fmean(accuracy[name]) for name in ("small", "plain"))
    best = max(REMEDIES, key=lambda name: fmean(accuracy[name]))
    shares = [digits(100 * value, 2) for value in (plain, fmean(accuracy[best]), small)]
    message = (
        f"{shares[0]} % right in batches of {large:,} at the rate of {SMALL}; {shares[1]} % with {REMEDIES[best]}; "
        f"{shares[2]} % in batches of {SMALL}"
    )

    def panel(y: str, values: Mapping[str, list[float]]) -> Panel:
        return Panel("LARS and LAMB with warm-up", y, (Bars(list(LABELS.values()), [values[name] for name in LABELS]),))

    return Picture("remedies", message, (panel("validation accuracy", accuracy), panel("training loss (nats)", losses)))


EXPERIMENT = Experiment(
    name="large_batch",
    title="What makes a large batch work",
    claims={
        "C4": Claim(
            says="At equal epochs a large batch with the small batch's rate falls behind. Linear scaling of the rate "
            "with a gradual warm-up (Goyal et al. 2017), LARS, LAMB (You et al. 2017, 2020) and stochastic weight "
            "averaging at a scaled rate (Izmailov et al. 2018) each make it work. (What the scaled rate does alone is "
            "shown beside them.)",
            refuted_by="A remedy, at its best rate of five, whose validation accuracy is no higher than that of the "
            "plain large batch.",
        )
    },
    rules=tuple(
        Rule("C4", f"gain_{name}", f"validation accuracy of {words}, minus of the plain large batch", above=0.02)
        for name, words in REMEDIES.items()
    ),
    measure=measure,
)
