"""E3: what a sigma that remembers all gradients does at the end of a long flat stretch."""

from collections.abc import Callable

import torch
from jaxtyping import Float64
from torch import Tensor

from phoneme.lab.bench import Bench
from phoneme.lab.experiment import Experiment, Measured
from phoneme.lab.pictures import Line, Panel, Picture
from phoneme.lab.rules import Claim, Rule
from phoneme.lab.surfaces import roll, seen_from_above, trajectory
from phoneme.optim.textbook import Adagrad, RMSProp, Textbook

STEEP, FLAT = 1.0, 1e-3  # curvatures of the bowl across and along: the lecture's is as elongated
RATE = 0.2  # so that the burst, at about (2 / RATE)^2 updates, comes while x is still on its way
QUIET = 0.01  # of the distance across at the start: below it the walls are forgotten
BURST = 0.1  # and a tenth of that distance, reached again afterwards, is what one would call a burst; less, none
ARMS: dict[str, tuple[type[Textbook], bool]] = {
    "adagrad": (Adagrad, False),
    "adagrad_decayed": (Adagrad, True),
    "rmsprop": (RMSProp, False),
    "rmsprop_decayed": (RMSProp, True),
}


def bowl(points: Float64[Tensor, "*run 2"]) -> Float64[Tensor, "*run"]:
    """(FLAT x^2 + STEEP y^2) / 2."""
    return (FLAT * points[..., 0].square() + STEEP * points[..., 1].square()) / 2


def inverse_root(step: int) -> float:
    """1 / sqrt(t + 1), the decay that goes with Adagrad (Duchi et al. 2011)."""
    return (step + 1) ** -0.5


def burst_of(across: Float64[Tensor, "place start"]) -> Float64[Tensor, " start"]:
    """The largest |y| after it has first been below QUIET, as a share of the first |y|; NaN if it never was."""
    sizes = (across / across[0]).abs()
    quiet = sizes < QUIET
    after = quiet.cumsum(0) > 0
    height = sizes.where(after, 0.0).amax(0)
    return torch.where(quiet.any(0), height, torch.nan)


def measure(
    bench: Bench,
    rate: float = RATE,
    decay: Callable[[int], float] = inverse_root,
    rolled: int | None = None,
) -> Measured:
    """`decay(step)` is the factor of the rate that is to tame the bursts; a small `rate` has none in these updates."""
    steps = rolled or bench.choose(4000, 10_000)
    drawn = [torch.rand(2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) for seed in bench.seeds]
    starts = torch.tensor([-20.0, 1.0], dtype=torch.float64) + 0.2 * (2 * torch.stack(drawn) - 1)
    places = {
        name: roll(bowl, starts, kind, torch.tensor([rate]).double(), steps=steps, schedule=decay if decayed else None)
        for name, (kind, decayed) in ARMS.items()
    }
    bursts = {name: burst_of(rolled[:, 0, :, 1]) for name, rolled in places.items()}
    ends = {name: bowl(rolled[-1, 0]).tolist() for name, rolled in places.items()}
    return Measured(
        effects={name: found.tolist() for name, found in bursts.items()},
        pictures=(_over_time(places, bursts), _from_above(places)),
        numbers={
            "final_loss": ends,
            "updates": steps,
            "rate": rate,
        },
    )


def _over_time(places: dict[str, Tensor], bursts: dict[str, Tensor]) -> Picture:
    panels = []
    for name, label in (("adagrad", "Adagrad (mean)"), ("rmsprop", "RMSProp")):
        lines = []
        for arm, said in ((name, "η constant"), (f"{name}_decayed", "η falling as 1/√(t + 1)")):
            across = places[arm][:, 0, 0, 1].abs()
            every = max(1, len(across) // 200)
            windows = across[: len(across) // every * every].view(-1, every)
            lines.append(Line(said, list(range(0, len(windows) * every, every)), windows.amax(1).tolist()))
        panels.append(Panel("update", "distance across the valley, |y|", tuple(lines), title=label))
    shares = {name: found.mean().item() for name, found in bursts.items()}
    message = (
        f"After the flat stretch a constant η throws Adagrad back to {100 * shares['adagrad']:.0f} % of its first "
        f"distance, a falling one to {100 * shares['adagrad_decayed']:.2g} %"
    )
    return Picture("bursts", message, tuple(panels))


def _from_above(places: dict[str, Tensor]) -> Picture:
    panels, late = [], []
    for arm, title in (("adagrad", "Adagrad (mean), η constant"), ("adagrad_decayed", "η falling as 1/√(t + 1)")):
        way = places[arm][:, 0, 0]
        late.append(way[len(way) // 10 :, 1].abs().max().item())
        reach = 1.1 * max(way[:, 1].abs().max().item(), 1.0)
        surface = seen_from_above(bowl, (1.1 * way[0, 0].item(), 3.0), (-reach, reach))
        panels.append(Panel("x, along the valley", "y, across", (surface, trajectory("", way)), title=title))
    return Picture(
        "trajectory", "The same way seen from above: the bursts leave the floor of the valley", tuple(panels)
    )


EXPERIMENT = Experiment(
    name="late_burst",
    title="The burst at the end of a flat stretch",
    claims={
        "E3": Claim(
            says="Where the gradient across a valley has been small for long, a σ that averages all gradients since "
            "the start shrinks until a step across is too long: a burst. A falling η tames it, as it does RMSProp's.",
            refuted_by="No burst with a constant η: the distance across stays below a tenth of the first, once it was "
            "below a hundredth. Or a burst with a falling η.",
        )
    },
    rules=(
        Rule("E3", "adagrad", "largest |y| after the floor was reached, over the first |y|, Adagrad", above=BURST),
        Rule("E3", "adagrad_decayed", "the same with a falling η", below=BURST),
        Rule("E3", "rmsprop", "the same, RMSProp with a constant η", above=BURST),
        Rule("E3", "rmsprop_decayed", "the same, RMSProp with a falling η", below=BURST),
    ),
    measure=measure,
)
