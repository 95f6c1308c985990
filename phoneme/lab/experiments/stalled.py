"""B1, E1: a run whose loss stands still. Is it at a critical point, or does it bounce between the walls of a valley?"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from phoneme.curvature import analyse
from phoneme.curvature.hvp import HessianProducts
from phoneme.curvature.lanczos import lanczos
from phoneme.curvature.objective import Objective
from phoneme.curvature.sharpness import bouncing, momentum_threshold
from phoneme.lab.bench import Bench
from phoneme.lab.descent import descend
from phoneme.lab.experiment import Experiment, Measured
from phoneme.lab.pictures import Line, Panel, Picture
from phoneme.lab.rules import Claim, Rule
from phoneme.lab.speech import Frames
from phoneme.losses import cross_entropy
from phoneme.wording import digits

# So small that it cannot know the frames by heart: where cross-entropy goes to 0 the surface flattens, and nothing
# bounces any more (Cohen et al. 2021, appendix).
NETWORK = {"depth": 3, "width": 8, "activation": "tanh"}
FRAMES = 1024
TIMES = 1.0  # the rate, in units of the largest that gradient descent stands at the start, 2 / lambda_max
WINDOW = 100  # updates over which a median loss is taken: it has spikes
LOOKS, STEPS = 10, 20  # the last steps, in so many rows of so many
PRODUCTS = 80  # of Lanczos: the top of the spectrum is well separated
CURE, CURED = 0.25, 300  # of the rate; updates with it
DRAWN, THINNED = 150, 5  # points of a line; every fifth of the last updates


@dataclass(frozen=True)
class Run:
    """A descent, and what it looked like: per update; `trail` holds the last weights, one update a row."""

    rate: float
    losses: list[float]
    gradients: list[float]
    trail: Float[Tensor, "update n"]


def flat(model: nn.Module) -> Float[Tensor, " n"]:
    return nn.utils.parameters_to_vector(model.parameters()).detach()


def run(model: nn.Module, frames: Frames, rate: float, updates: int, kept: int) -> Run:
    """Gradient descent on all frames."""
    norms: list[Tensor] = []
    trail: list[Tensor] = []

    def watch(step: int) -> None:
        norms.append(torch.cat([p.grad.flatten() for p in model.parameters()]).norm())
        if step >= updates - kept:
            trail.append(flat(model))

    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    losses = descend(model, frames, optimizer, steps=updates, batch_size=None, seed=0, watch=watch).losses
    return Run(rate, losses.tolist(), torch.stack(norms).tolist(), torch.stack(trail))


def objective_of(model: nn.Module, frames: Frames) -> Objective:
    return Objective(model, cross_entropy, [(frames.inputs, frames.targets)])


def steepest(objective: Objective, seed: int) -> tuple[float, Float[Tensor, " n"]]:
    """lambda_max and its eigenvector."""
    found = lanczos(HessianProducts(objective), bottom=1, tolerance=1e-2, max_products=PRODUCTS, seed=seed).top[0]
    return found.value, found.vector


def alternation(steps: Float[Tensor, "step n"], direction: Float[Tensor, " n"]) -> float:
    """The share of steps whose part along the direction has the other sign than that of the step before."""
    signs = (steps @ direction).sign()
    return float((signs[1:] * signs[:-1] < 0).double().mean())


def look(objective: Objective, done: Run, looks: int, seed: int) -> dict[str, list[float]]:
    """Along rows of the last steps: sharpness over what the rate stands, alternation, and jumps over a valley.

    The sharpness and its direction are those in the middle of the row: the floor of the valley, if there is one.
    """
    found: dict[str, list[float]] = {"sharpness": [], "alternation": [], "bouncing": []}
    for end in range(len(done.trail) - STEPS * (looks - 1), len(done.trail) + 1, STEPS):
        row = done.trail[end - STEPS - 1 : end]
        value, vector = steepest(objective.at(row.mean(dim=0)), seed)
        jumps = [bouncing(objective, before, after).bouncing for before, after in pairwise(row)]
        found["sharpness"].append(value / momentum_threshold(done.rate))
        found["alternation"].append(alternation(row.diff(dim=0), vector))
        found["bouncing"].append(sum(jumps) / len(jumps))
    return found


def fall(losses: list[float]) -> float:
    """The share by which the median loss of the last WINDOW updates is below that of the WINDOW before."""
    return 1 - median(losses[-WINDOW:]) / median(losses[-2 * WINDOW : -WINDOW])


def continued(model: nn.Module, frames: Frames, rate: float, updates: int) -> list[float]:
    """The losses of some more updates; the model is left as it was."""
    here = flat(model)
    losses = run(model, frames, rate, updates, 1).losses
    nn.utils.vector_to_parameters(here, model.parameters())
    return losses


def measure(
    bench: Bench,
    times: float = TIMES,
    start: Callable[[nn.Module], None] | None = None,
    updates: int | None = None,
    cured: int = CURED,
    looks: int = LOOKS,
) -> Measured:
    """`times` far below 1 neither stalls nor bounces; `start`, called with a model, may put it somewhere else."""
    updates = updates or bench.choose(1500, 3000)
    effects: dict[str, list[float]] = {rule.effect: [] for rule in EXPERIMENT.rules}
    curves: dict[str, list[list[float]]] = {"loss": [], "gradient": [], "as before": [], "lower rate": []}
    numbers: dict[str, list[Any]] = {"rate": [], "verdict": [], "why": [], "found": []}
    for seed in bench.track(bench.seeds, "stalled runs"):
        model, frames = bench.model(seed, **NETWORK), bench.speech.train(FRAMES, seed)
        if start is not None:
            start(model)
        rate = times * momentum_threshold(1.0) / steepest(objective_of(model, frames), seed)[0]
        done = run(model, frames, rate, updates, looks * STEPS + 1)
        batch = [(frames.inputs, frames.targets)]
        answer = analyse(model, cross_entropy, batch, spectrum="extremes", max_products=PRODUCTS, seed=seed)
        found = look(objective_of(model, frames), done, looks, seed)
        after = {"as before": continued(model, frames, rate, cured)}
        after["lower rate"] = continued(model, frames, CURE * rate, cured)
        ends = {name: median(losses[-WINDOW:]) for name, losses in after.items()}
        seen = {name: median(values) for name, values in found.items()}
        seen |= {"still": fall(done.losses), "gradient": answer.gradient_norm / answer.gradient_threshold}
        seen["cure"] = 1 - ends["lower rate"] / ends["as before"]
        _append(effects, seen)
        _append(curves, {"loss": done.losses, "gradient": done.gradients, **after})
        _append(numbers, {"rate": rate, "verdict": answer.verdict, "why": answer.why, "found": found})
    pictures = (_picture(curves, effects),)
    return Measured(effects=effects, pictures=pictures, numbers={**numbers, "updates": updates, "frames": FRAMES})


def _append(rows: dict[str, list[Any]], values: dict[str, Any]) -> None:
    for name, value in values.items():
        rows[name].append(value)


def _picture(curves: dict[str, list[list[float]]], effects: dict[str, list[float]]) -> Picture:
    updates, cured = len(curves["loss"][0]), len(curves["as before"][0])
    every = max(1, updates // DRAWN)
    x, later = list(range(0, updates, every)), list(range(updates, updates + cured, THINNED))

    def thinned(name: str, every: int) -> list[list[float]]:
        return [row[::every] for row in curves[name]]

    share = fmean(effects["bouncing"])
    fallen, times = fmean(effects["still"]), fmean(effects["gradient"])
    message = (
        f"In {WINDOW} updates the loss falls by {digits(100 * fallen, 2)} %, with a gradient {digits(times)} times "
        f"too large for a critical point; {100 * share:.0f} % of the steps jump over the floor of a valley"
    )
    left = Panel(
        "updates",
        "training loss (nats)",
        (
            Line("gradient descent", x, thinned("loss", every)),
            Line("a quarter of the rate", later, thinned("lower rate", THINNED)),
            Line("the same rate", later, thinned("as before", THINNED)),
        ),
        y_log=True,
        title="the loss",
    )
    right = Panel(
        "updates", "gradient norm", (Line("", x, thinned("gradient", every)),), y_log=True, title="the gradient"
    )
    return Picture("stalled", message, (left, right))


EXPERIMENT = Experiment(
    name="stalled",
    title="Training that stands still",
    claims={
        "B1": Claim(
            says="A loss that stays flat is no sign of a critical point: the gradient can be large all the while.",
            refuted_by="A run that stalls where the gradient is small.",
        ),
        "E1": Claim(
            says="Training stalls with a large gradient because its steps go from wall to wall of a valley: the "
            "surface is as sharp as the rate allows or sharper, and a smaller rate lets the loss fall again.",
            refuted_by="Steps that do not turn back, or a loss that a smaller rate does not lower.",
        ),
    },
    rules=(
        Rule("B1", "still", "share by which the median loss falls from 100 updates to the next 100", below=0.1),
        Rule("B1", "gradient", "gradient norm over the largest that counts as zero", above=10.0),
        Rule("E1", "sharpness", "λ_max over 2/η, the most that gradient descent stands", above=0.9),
        Rule("E1", "alternation", "share of steps that turn back along the steepest direction", above=0.6),
        Rule("E1", "bouncing", "share of steps with a clearly lower loss half way than at both ends", above=0.5),
        Rule("E1", "cure", "share by which a quarter of the rate lowers the loss within 300 updates", above=0.1),
    ),
    measure=measure,
)
