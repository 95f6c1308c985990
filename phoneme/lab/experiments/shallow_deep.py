"""A1: is a deep network with a large training loss too weak, or was it not optimised?"""

from functools import partial

import torch
from torch import nn

from phoneme.lab.bench import Bench
from phoneme.lab.descent import descend, score
from phoneme.lab.experiment import Experiment, Measured
from phoneme.lab.pictures import Bars, Line, Panel, Picture
from phoneme.lab.rules import Claim, Rule
from phoneme.lab.speech import Frames
from phoneme.wording import digits

SHALLOW, DEEP = 2, 20  # hidden blocks; 20 layers are the shallower of the two networks of He et al. 2016
RATE, BATCH = 0.1, 128  # of plain gradient descent: the rate and batch of He et al. 2016, section 4.2
WARM_UP, DROP_AT, DROP_TO = 0.1, 0.6, 0.1  # the rate rises, and is divided by 10, as theirs: shares of the updates
FRAMES = 4096
WEAK_WIDTH, WEAK_CONTEXT = 3, 1  # units, frames: fewer units than classes, and one frame of 10 ms to go by
AVERAGED = 40  # updates a point of a curve


@torch.no_grad()
def deepened(shallow: nn.Module, deep: nn.Module) -> nn.Module:
    """`deep`, a plain ReLU network as wide, made to compute what `shallow` does.

    Its first blocks and its output are those of `shallow`. The others are the identity: behind a ReLU all values are 0
    or more, and ReLU(I x + 0) = x for such x.
    """
    for mine, its in zip(deep.blocks, shallow.blocks, strict=False):
        mine.load_state_dict(its.state_dict())
    for block in deep.blocks[len(shallow.blocks) :]:
        nn.init.eye_(block.linear.weight)
        nn.init.zeros_(block.linear.bias)
    deep.output.load_state_dict(shallow.output.state_dict())
    return deep


def measure(bench: Bench, steps: int | None = None, deep: int = DEEP, weak_width: int = WEAK_WIDTH) -> Measured:
    """`deep` hidden blocks in the deep networks, `weak_width` units in the one that is too weak."""
    steps = steps or bench.choose(1000, 3000)
    plain = {"norm": "none", "activation": "relu", "residual": False, "dropout": 0.0}
    kinds = {
        "shallow": plain | {"depth": SHALLOW},
        "deep": plain | {"depth": deep},
        "helped": plain | {"depth": deep, "norm": "batch", "residual": True},
        "weak": plain | {"depth": SHALLOW, "width": weak_width, "parameters": None, "context": WEAK_CONTEXT},
    }
    speech = {"weak": bench.open_speech(WEAK_CONTEXT)}
    losses: dict[str, list[float]] = {kind: [] for kind in kinds}
    curves: dict[str, list[list[float]]] = {kind: [] for kind in kinds}
    copied = []
    for seed in bench.track(bench.seeds, "shallow and deep"):
        for kind, changes in kinds.items():
            frames = speech.get(kind, bench.speech).train(FRAMES, seed)  # the same frames in each window
            model = bench.model(seed, **changes)
            optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
            run = descend(
                model, frames, optimizer, steps=steps, batch_size=BATCH, seed=seed, schedule=partial(_factor, steps)
            )
            losses[kind].append(score(model, frames).loss)
            curves[kind].append(run.losses[: steps - steps % AVERAGED].view(-1, AVERAGED).mean(1).tolist())
            if kind == "shallow":
                copied.append(_difference(model, deepened(model, bench.model(seed, **kinds["deep"])), frames))
    return Measured(
        effects={
            "deep_minus_shallow": _minus(losses["deep"], losses["shallow"]),
            "deep_can_be_shallow": copied,
            "helped_minus_shallow": _minus(losses["helped"], losses["shallow"]),
            "weak_minus_shallow": _minus(losses["weak"], losses["shallow"]),
        },
        pictures=(_picture(losses, curves, deep, weak_width, steps),),
        numbers={"training_loss": losses, "updates": steps, "frames": FRAMES, "rate": RATE, "batch_size": BATCH},
    )


def _factor(steps: int, step: int) -> float:
    """Of the rate, at an update."""
    return DROP_TO if step >= DROP_AT * steps else min(1.0, (step + 1) / (WARM_UP * steps))


def _difference(one: nn.Module, other: nn.Module, frames: Frames) -> float:
    """Of their losses on the same frames, without sign."""
    return abs(score(one, frames).loss - score(other, frames).loss)


def _minus(left: list[float], right: list[float]) -> list[float]:
    return [a - b for a, b in zip(left, right, strict=True)]


def _picture(
    losses: dict[str, list[float]], curves: dict[str, list[list[float]]], deep: int, weak_width: int, steps: int
) -> Picture:
    names = {
        "shallow": f"shallow: {SHALLOW} layers",
        "deep": f"deep: {deep} layers",
        "helped": f"deep, with BatchNorm and shortcuts: {deep} layers",
        "weak": f"weak: {WEAK_CONTEXT} frame, {weak_width} units",
    }
    x = [(place + 0.5) * AVERAGED for place in range(steps // AVERAGED)]
    means = {kind: digits(sum(values) / len(values)) for kind, values in losses.items()}
    return Picture(
        "training_loss",
        f"Training loss: shallow {means['shallow']}; deep {means['deep']}, although it could copy the shallow one; "
        f"deep with BatchNorm and shortcuts {means['helped']}",
        (
            Panel(
                "updates",
                "training loss (nats)",
                tuple(Line(names[kind], x, rows) for kind, rows in curves.items()),
                y_log=True,
            ),
            Panel(
                "",
                "training loss at the end (nats)",
                (Bars(("shallow", "deep", "deep,\nhelped", "weak"), [losses[kind] for kind in names]),),
            ),
        ),
    )


EXPERIMENT = Experiment(
    name="shallow_deep",
    title="Shallow before deep: too weak, or not optimised?",
    claims={
        "A1": Claim(
            says="A deep plain network ends with a larger training loss than a shallow one, although it could copy it: "
            "an optimisation failure, since with BatchNorm and shortcuts the same depth is no worse than the shallow "
            "network. A network that is too weak also has a large training loss; a larger one removes it.",
            refuted_by="The deep network reaches the training loss of the shallow one; or it cannot represent it; or "
            "no better way to optimise helps it; or more units and frames do not help the weak one.",
        )
    },
    rules=(
        Rule("A1", "deep_minus_shallow", "training loss, nats: deep plain network minus shallow one", above=0.1),
        Rule(
            "A1",
            "deep_can_be_shallow",
            "difference in loss, nats, between the shallow network and its copy in the deep one",
            below=1e-4,
            exact=True,
        ),
        Rule(
            "A1",
            "helped_minus_shallow",
            "training loss, nats: deep network with BatchNorm and shortcuts, minus shallow one",
            below=0.05,
        ),
        Rule("A1", "weak_minus_shallow", "training loss, nats: too weak a network minus the shallow one", above=0.3),
    ),
    measure=measure,
)
