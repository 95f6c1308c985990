"""D1: does momentum go on where plain descent stops?"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import geometric_mean

import torch
from jaxtyping import Float64
from torch import Tensor
from torch.nn.functional import softplus

from phoneme.lab.bench import Bench
from phoneme.lab.descent import descend
from phoneme.lab.experiment import Experiment, Measured
from phoneme.lab.pictures import Bars, Level, Line, Panel, Picture, Points
from phoneme.lab.rules import Claim, Rule
from phoneme.lab.speech import Frames
from phoneme.lab.surfaces import arrival, roll
from phoneme.optim.textbook import LAMBDA, GradientDescent, Momentum

STEEP = 10.0  # curvature across the way: plain descent diverges at rates above 2 / STEEP
RATE = 1 / STEEP  # at which the way across takes one update
PLAIN_RATES = (RATE, 0.95 * 2 / STEEP)  # plain descent takes the better one
SEEN = 200  # updates, in the picture
HALF = math.log10(2)  # an effect that one would call one: half of the updates

DEPTH, BATCH, FRAMES = 3, 128, 4096  # of the sigmoid network: its first gradients are 1e-3 of those of its last layer
RATES = (0.1, 0.3, 1.0, 3.0)
SAME = 0.1  # Sutskever et al. 2013, table 1, go up to 0.1 with momentum
OUT = 0.25  # nats below the loss of a network that knows only how frequent the classes are
SMOOTHED = 25  # updates


@dataclass(frozen=True)
class Trap:
    """A way along x, and a wall STEEP y^2 / 2 across it. Below `goal` one is out of the trap and near the bottom."""

    along: Callable[[Tensor], Tensor]
    start: float
    scatter: float
    goal: float

    def __call__(self, points: Float64[Tensor, "*run 2"]) -> Float64[Tensor, "*run"]:
        return self.along(points[..., 0]) + STEEP / 2 * points[..., 1].square()

    def starts(self, seeds: tuple[int, ...]) -> Float64[Tensor, "start 2"]:
        """One a seed: y = 1, x drawn from a normal distribution."""
        drawn = [torch.randn((), dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        x = self.start + self.scatter * torch.stack(drawn)
        return torch.stack([x, torch.ones_like(x)], -1)


def plateau(x: Tensor) -> Tensor:
    """A slope of 1/2 until x = -6, nothing, and a well of depth 1 at x = 0."""
    return 1 - torch.exp(-x.square() / 2) + softplus(-4 * (x + 6)) / 8


def saddle(x: Tensor) -> Tensor:
    """Curvature -0.1 at x = 0, where the gradient is 0; the bottoms are at x = 1 and x = -1."""
    return 0.1 * (x.pow(4) / 4 - x.square() / 2)


def shallow_minimum(x: Tensor) -> Tensor:
    """A wide bowl with its bottom at x = 0, and a dent of depth 0.4 in its slope at x = -4."""
    return x.square() / 20 - 0.4 * torch.exp(-(x + 4).square() / (2 * 0.3**2))


TRAPS = {
    "plateau": Trap(plateau, start=-8.0, scatter=0.5, goal=0.5),
    "saddle": Trap(saddle, start=0.0, scatter=1e-4, goal=-0.0125),
    "shallow_minimum": Trap(shallow_minimum, start=-8.0, scatter=0.5, goal=0.2),
}


def measure(bench: Bench, steps: int | None = None, rolled: int | None = None, momentum: float = LAMBDA) -> Measured:
    """`momentum` 0 compares plain descent with itself. `steps` are those on speech, `rolled` those on the surfaces."""
    rolled = rolled or bench.choose(3000, 10_000)
    found = {name: _on_surface(trap, bench.seeds, rolled, momentum) for name, trap in TRAPS.items()}
    updates, seen = ({name: pair[place] for name, pair in found.items()} for place in (0, 1))
    speech, curves = _on_speech(bench, steps or bench.choose(1200, 2400), momentum)
    ratios = {
        name: [math.log10(p / m) for p, m in zip(kinds["plain"], kinds["momentum"], strict=True)]
        for name, kinds in {**updates, **speech}.items()
    }
    return Measured(
        effects=ratios,
        pictures=(_surfaces(seen), _speech(curves, speech)),
        numbers={
            "updates": updates,
            "updates_on_speech": speech,
            "at_most": rolled,
            "momentum": momentum,
            "rates_on_surfaces": {"plain": PLAIN_RATES, "momentum": RATE},
            "rates_on_speech": RATES,
        },
    )


def _on_surface(trap: Trap, seeds: tuple[int, ...], steps: int, momentum: float) -> tuple[dict, dict]:
    """Of each kind the updates until a seed's start has arrived for good (steps + 1: never), and where it is at SEEN.

    Plain descent at the better of its rates.
    """
    starts = trap.starts(seeds)
    plain = roll(trap, starts, GradientDescent, torch.tensor(PLAIN_RATES).double(), steps=steps)
    carried = roll(trap, starts, Momentum, torch.tensor([RATE]).double(), steps=steps, momentum=momentum)
    updates, places = {}, {}
    for kind, rolled in (("plain", plain), ("momentum", carried)):
        needed, rate = arrival(trap(rolled), trap.goal).min(0)
        updates[kind] = needed.tolist()
        places[kind] = rolled[SEEN, rate, torch.arange(len(starts)), 0].tolist()
    return updates, places


def frequency_entropy(frames: Frames) -> float:
    """The loss of a network that says how frequent each class is, whatever it sees, in nats."""
    shares = torch.bincount(frames.targets).double() / len(frames)
    return -torch.special.xlogy(shares, shares).sum().item()


def _on_speech(bench: Bench, steps: int, momentum: float) -> tuple[dict[str, dict[str, list[int]]], dict[str, list]]:
    """Updates until a deep sigmoid network leaves its flat start, at the same rate and each at its best; losses."""
    found = {rule: {"plain": [], "momentum": []} for rule in ("speech_same_rate", "speech_best_rate")}
    curves: dict[str, list] = {"plain": [], "momentum": [], "goal": []}
    for seed in bench.track(bench.seeds, "momentum"):
        frames = bench.speech.train(FRAMES, seed)
        goal = frequency_entropy(frames) - OUT
        curves["goal"].append(goal)
        for name in ("plain", "momentum"):
            escapes = {}
            for rate in RATES:
                updates = steps if rate == SAME else steps // 2
                model = bench.model(seed, activation="sigmoid", depth=DEPTH, norm="none")
                options = {"momentum": momentum} if name == "momentum" else {}
                kind = Momentum if name == "momentum" else GradientDescent
                optimizer = kind(model.parameters(), lr=rate, **options)
                losses = descend(model, frames, optimizer, steps=updates, batch_size=BATCH, seed=seed).losses
                smooth = losses.unfold(0, SMOOTHED, 1).mean(1)
                below = (smooth < goal).nonzero()
                escapes[rate] = int(below[0, 0]) + SMOOTHED if len(below) else updates + 1
                if rate == SAME:
                    curves[name].append(smooth.tolist())
            found["speech_same_rate"][name].append(escapes[SAME])
            found["speech_best_rate"][name].append(min(escapes.values()))
    return found, curves


def _surfaces(seen: dict[str, dict[str, list[float]]]) -> Picture:
    panels, arrived = [], {"plain": 0, "momentum": 0}
    for name, trap in TRAPS.items():
        ends = (-9, 2) if trap.start else (-1.5, 1.5)
        x = torch.linspace(*ends, 200, dtype=torch.float64)
        marks = [Line("loss", x.tolist(), trap.along(x).tolist())]
        for kind, label in (("plain", "plain descent"), ("momentum", "momentum")):
            heights = trap.along(torch.tensor(seen[name][kind], dtype=torch.float64))
            arrived[kind] += bool((heights < trap.goal).all())
            marks.append(Points(f"{label}, after {SEEN} updates", seen[name][kind], heights.tolist()))
        panels.append(Panel("parameter along the way", "loss", tuple(marks), title=name.replace("_", " ")))
    message = (
        f"After {SEEN} updates momentum is near the bottom on {arrived['momentum']} of the 3 surfaces, "
        f"plain descent on {arrived['plain']}"
    )
    return Picture("surfaces", message, tuple(panels))


def _speech(curves: dict[str, list], found: dict[str, dict[str, list[int]]]) -> Picture:
    every = max(1, len(curves["plain"][0]) // 150)
    lines = [
        Line(
            {"plain": "plain descent", "momentum": "momentum"}[name],
            [SMOOTHED + place for place in range(0, len(curves[name][0]), every)],
            [row[::every] for row in curves[name]],
        )
        for name in ("plain", "momentum")
    ]
    factors = {
        rule: geometric_mean(p / m for p, m in zip(kinds["plain"], kinds["momentum"], strict=True))
        for rule, kinds in found.items()
    }
    message = (
        f"To leave a flat start plain descent takes {factors['speech_same_rate']:.1f} times momentum's updates at one "
        f"rate, {factors['speech_best_rate']:.1f} times at the best of each"
    )
    labels, kinds = ("plain\ndescent", "momentum"), ("plain", "momentum")
    goal = Level("out of the flat start", sum(curves["goal"]) / len(curves["goal"]))
    return Picture(
        "speech",
        message,
        (
            Panel("update", "training loss (nats)", (*lines, goal), title=f"both at the rate {SAME:g}"),
            Panel(
                "",
                "updates until out",
                tuple(
                    Bars(labels, [kinds_found[kind] for kind in kinds], label)
                    for kinds_found, label in (
                        (found["speech_same_rate"], f"rate {SAME:g}"),
                        (found["speech_best_rate"], "each at its best rate"),
                    )
                ),
            ),
        ),
    )


EXPERIMENT = Experiment(
    name="momentum",
    title="Where plain descent stops, does momentum go on?",
    claims={
        "D1": Claim(
            says="Momentum carries the parameters through plateaus, saddles and shallow minima where plain descent, "
            "even at its largest stable rate, stops or needs at least twice the updates.",
            refuted_by="Plain descent that arrives in less than twice the updates, or momentum that does not arrive.",
        )
    },
    rules=(
        Rule("D1", "plateau", "log10 of plain descent's updates over those with momentum, plateau", above=HALF),
        Rule("D1", "saddle", "the same, from the edge of a saddle", above=HALF),
        Rule("D1", "shallow_minimum", "the same, with a shallow minimum on the way", above=HALF),
        Rule("D1", "speech_same_rate", "the same, flat start of a sigmoid network on speech, one rate", above=HALF),
        Rule(
            "D1",
            "speech_best_rate",
            "log10 of the updates, plain over momentum, flat start, each at the best of four rates",
            above=HALF,
        ),
    ),
    measure=measure,
)
