"""E2: a bowl that is long one way and narrow the other; what dividing by sigma does there."""

import math
from collections.abc import Callable
from statistics import geometric_mean

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from phoneme.lab.bench import Bench
from phoneme.lab.experiment import Experiment, Measured
from phoneme.lab.pictures import Bars, Panel, Picture
from phoneme.lab.rules import Claim, Rule
from phoneme.lab.surfaces import Height, arrival, roll, seen_from_above, trajectory
from phoneme.optim.textbook import Adagrad, Adam, GradientDescent, RMSProp, Textbook

CONDITION = (
    1000.0  # of the bowl: the steepest curvature over the flattest; in the lecture's 100,000 updates are too few
)
CLOSE = 0.01  # of the distance at the start: where one has arrived
TENFOLD = 1.0  # log10: an effect that one would call one where a thousandfold is to be gained

KINDS: dict[str, type[Textbook]] = {
    "plain": GradientDescent,
    "adagrad": Adagrad,
    "rmsprop": RMSProp,
    "adam": Adam,
}
LABELS = {"plain": "plain descent", "adagrad": "Adagrad\n(mean)", "rmsprop": "RMSProp", "adam": "Adam"}
TITLES = {"bowl": "elongated bowl", "turned": "the same bowl, turned by 45°", "valley": "curved valley"}
VIEWS = {"bowl": ((-2.2, 0.6), (-1.7, 1.7)), "valley": ((-1.7, 1.5), (-0.6, 2.0))}


def bowl(condition: float, angle: float) -> Callable[[Tensor], Tensor]:
    """(u^2 + condition v^2) / 2, u and v turned against the parameters by `angle` degrees."""
    turn = math.radians(angle)

    def height(points: Float64[Tensor, "*run 2"]) -> Float64[Tensor, "*run"]:
        x, y = points.unbind(-1)
        u, v = math.cos(turn) * x + math.sin(turn) * y, math.cos(turn) * y - math.sin(turn) * x
        return (u.square() + condition * v.square()) / 2

    return height


def curved_valley(points: Float64[Tensor, "*run 2"]) -> Float64[Tensor, "*run"]:
    """Rosenbrock's function (1960), (1 - x)^2 + 100 (y - x^2)^2: the bottom of a bent valley is at (1, 1).

    >>> curved_valley(torch.tensor([[1.0, 1.0], [-1.2, 1.0]]).double())
    tensor([ 0.0000, 24.2000], dtype=torch.float64)
    """
    x, y = points.unbind(-1)
    return (1 - x).square() + 100 * (y - x.square()).square()


def starts(seeds: tuple[int, ...], centre: tuple[float, float], spread: float) -> Float64[Tensor, "start 2"]:
    """A point a seed, uniform in the square around the centre."""
    drawn = [torch.rand(2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.tensor(centre, dtype=torch.float64) + spread * (2 * torch.stack(drawn) - 1)


def at_its_best(
    height: Height,
    bottom: tuple[float, float],
    begin: Float64[Tensor, "start 2"],
    kind: type[Textbook],
    rates: Float64[Tensor, " rate"],
    steps: int,
) -> tuple[Int64[Tensor, " start"], Float64[Tensor, "place 2"]]:
    """Updates until CLOSE for good at the rate that is best for each start, and the way of the first at its own."""
    places = roll(height, begin, kind, rates, steps=steps)
    distances = (places - torch.tensor(bottom, dtype=torch.float64)).norm(dim=-1)
    updates, best = arrival(distances / distances[0], CLOSE).min(0)
    return updates, places[: int(updates[0]) + 1, best[0], 0]


def measure(bench: Bench, condition: float = CONDITION, angle: float = 0.0, rolled: int | None = None) -> Measured:
    """`condition` 1 is a round bowl; with an `angle` of 45 its axes are no longer those of the parameters."""
    limit, many = rolled or bench.choose(8000, 20_000), bench.choose(12, 25)
    begin = starts(bench.seeds, (-1.5, 1.0), 0.5)
    surfaces = {  # its bottom, its starts, the largest rate of plain descent
        "bowl": (bowl(condition, angle), (0.0, 0.0), begin, 2 / condition),
        "turned": (bowl(condition, 45.0), (0.0, 0.0), begin, 2 / condition),
        "valley": (curved_valley, (1.0, 1.0), starts(bench.seeds, (-1.2, 1.0), 0.1), 2e-3),
    }
    updates: dict[str, dict[str, list[int]]] = {}
    ways = {}
    for name, (height, bottom, begin, largest) in bench.track(surfaces.items(), "surfaces"):
        updates[name] = {}
        for kind, optimizer in KINDS.items():
            ends = (math.log10(largest) - 1, math.log10(largest)) if kind == "plain" else (-3.0, 0.0)
            rates = torch.logspace(*ends, many, dtype=torch.float64)
            needed, ways[name, kind] = at_its_best(height, bottom, begin, optimizer, rates, limit)
            updates[name][kind] = needed.tolist()
    found = updates["bowl"]
    return Measured(
        effects={
            kind: [_gain(p, a, limit) for p, a in zip(found["plain"], found[kind], strict=True)]
            for kind in KINDS
            if kind != "plain"
        },
        pictures=(_drawn({name: surfaces[name][0] for name in VIEWS}, ways, updates), _counted(updates)),
        numbers={"updates": updates, "at_most": limit, "condition": condition},
    )


def _gain(plain: int, divided: int, limit: int) -> float:
    """log10 of the ratio; NaN where plain descent would have needed more than `limit` updates to tell."""
    gain = math.log10(plain / divided)
    return math.nan if plain > limit and gain < TENFOLD else gain


def _drawn(surfaces: dict[str, Height], ways: dict, updates: dict[str, dict[str, list[int]]]) -> Picture:
    panels = []
    for name, height in surfaces.items():
        marks = [
            trajectory(f"{LABELS[kind]}: {updates[name][kind][0]:,} updates".replace("\n", " "), ways[name, kind])
            for kind in ("plain", "adagrad", "rmsprop")
        ]
        surface = seen_from_above(lambda points, height=height: height(points) + 0.01, *VIEWS[name], log=True)
        panels.append(Panel("parameter 1", "parameter 2", (surface, *marks), title=TITLES[name]))
    message = "The same starts, each optimizer at its best rate: where plain descent goes, and where dividing by σ goes"
    return Picture("trajectories", message, tuple(panels))


def _counted(updates: dict[str, dict[str, list[int]]]) -> Picture:
    gains = {}
    for name, found in updates.items():
        means = {kind: geometric_mean(row) for kind, row in found.items()}
        gains[name] = means["plain"] / min(means[kind] for kind in means if kind != "plain")
    message = (
        f"Dividing by σ saves at best a factor of {gains['bowl']:.0f} of the updates in the bowl, "
        f"{gains['turned']:.1f} if that lies askew, {gains['valley']:.1f} in a curved valley"
    )
    panels = [
        Panel(
            "", "updates until arrival", (Bars([LABELS[kind] for kind in found], list(found.values())),), TITLES[name]
        )
        for name, found in updates.items()
    ]
    return Picture("updates", message, tuple(panels))


EXPERIMENT = Experiment(
    name="elongated_bowl",
    title="One rate for a long axis and a short one",
    claims={
        "E2": Claim(
            says="On an elongated convex bowl one rate cannot serve both axes: the short one allows no rate that is "
            "fast along the long one. Dividing by σ, which gives each parameter a rate of its own, can.",
            refuted_by="Plain descent at its best rate that needs less than ten times the updates, in a bowl of "
            "condition 1000 whose axes are those of the parameters.",
        )
    },
    rules=tuple(
        Rule(
            "E2",
            kind,
            f"log10 of plain descent's updates over those of {said}, both at the best of their rates",
            above=TENFOLD,
        )
        for kind, said in (("adagrad", "Adagrad with the mean"), ("rmsprop", "RMSProp"), ("adam", "Adam"))
    ),
    measure=measure,
)
