"""G5: the relatives of BatchNorm in a deep sigmoid network that learns nothing without, and at small batches."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean

import torch
from jaxtyping import Float
from torch import Tensor, nn

from phoneme.lab.bench import Bench
from phoneme.lab.experiment import Experiment, Measured
from phoneme.lab.pictures import Bars, Panel, Picture
from phoneme.lab.rates import Run, best, runs_at
from phoneme.lab.rules import Claim, Rule
from phoneme.lab.speech import Speech
from phoneme.models import FrameNorm
from phoneme.models.masked import MaskedConv1d

FRAMES, BATCH = 4096, 128  # half as many are held out
DEEP = {"activation": "sigmoid", "depth": 5}  # as in `batch_norm`: it learns nothing without
RATES = (0.25, 1.0)  # around 0.5, its best rate with BatchNorm
OF_VECTORS = ("batch", "batch_renorm", "layer", "group", "rms", "weight", "spectral")
CONTEXT, WIDTH, DEPTH, KERNEL = 21, 16, 5, 3  # of the sigmoid network with a time axis
TIME_FRAMES, TIME_BATCH, OF_TIME = 2048, 32, ("batch", "instance")
# Batches of 2 on the user's own network, twice the updates; the rate lies between what linear scaling and the
# square root make of 0.5 at 128.
SMALL, SMALL_RATES, LONGER = 2, (0.03,), 2
WITHOUT_BATCH = ("layer", "group", "rms")
IN_SMALL = ("batch", "batch_renorm", *WITHOUT_BATCH)
RELATIVES = (*(kind for kind in OF_VECTORS if kind != "batch"), "instance")
LEARNED = 0.3  # nats: what is so far below the network without has learned something


@dataclass(frozen=True)
class Contest:
    """Networks that differ in their norm only, `make(seed, norm)`, trained alike on the same frames."""

    speech: Speech
    make: Callable[[int, str], nn.Module]
    kinds: tuple[str, ...]
    rates: tuple[float, ...]
    steps: int
    batch_size: int
    frames: int = FRAMES

    def run(self, seed: int, stand_in: str | None) -> dict[str, Run]:
        """Each at its best rate."""
        train, val = self.speech.train(self.frames, seed), self.speech.val(self.frames // 2, seed)
        how = {"steps": self.steps, "batch_size": self.batch_size, "seed": seed}

        def make(kind: str) -> nn.Module:
            return self.make(seed, kind if stand_in is None or kind == "none" else stand_in)

        return {kind: best(runs_at(partial(make, kind), train, val, self.rates, **how)) for kind in self.kinds}


class TimeNetwork(nn.Module):
    """Convolutions along the frames of a window, each followed by its norm and a sigmoid; it labels the centre."""

    def __init__(self, coeffs: int, classes: int, norm: str):
        super().__init__()
        inputs = [coeffs] + [WIDTH] * (DEPTH - 1)
        self.convs = nn.ModuleList(MaskedConv1d(n, WIDTH, KERNEL) for n in inputs)
        self.norms = nn.ModuleList(FrameNorm(norm, WIDTH) for _ in inputs)
        self.output = nn.Linear(WIDTH, classes)

    def forward(self, windows: Float[Tensor, "batch frame coeff"]) -> Float[Tensor, "batch classes"]:
        mask = torch.ones(windows.shape[:2], dtype=torch.bool, device=windows.device)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            windows = norm(conv(windows, mask), mask).sigmoid()
        return self.output(windows[:, windows.shape[1] // 2])


def time_network(speech: Speech, seed: int, norm: str) -> nn.Module:
    """Its weights drawn from the seed, on the device."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return TimeNetwork(speech.coeffs, speech.classes, norm).to(speech.device)


def _contests(bench: Bench, steps: int) -> dict[str, Contest]:
    windows = bench.open_speech(CONTEXT)
    return {
        "deep": Contest(
            speech=bench.speech,
            make=lambda seed, norm: bench.model(seed, norm=norm, **DEEP),
            kinds=("none", *OF_VECTORS),
            rates=RATES,
            steps=steps,
            batch_size=BATCH,
        ),
        "time": Contest(
            speech=windows,
            make=lambda seed, norm: time_network(windows, seed, norm),
            kinds=("none", *OF_TIME),
            rates=RATES,
            steps=steps,
            batch_size=TIME_BATCH,
            frames=TIME_FRAMES,
        ),
        "small": Contest(
            speech=bench.speech,
            make=lambda seed, norm: bench.model(seed, norm=norm),
            kinds=IN_SMALL,
            rates=SMALL_RATES,
            steps=LONGER * steps,
            batch_size=SMALL,
        ),
    }


def measure(bench: Bench, steps: int | None = None, stand_in: str | None = None) -> Measured:
    """`stand_in` takes the place of every norm.

    Weight normalisation starts as the same function as no normalisation: without the start from data of Salimans and
    Kingma 2016, section 3, it changes the descent only.
    """
    contests = _contests(bench, steps or bench.choose(180, 600))
    found: dict[str, list[dict[str, Run]]] = {name: [] for name in contests}
    for seed in bench.track(bench.seeds, "relatives"):
        for name, contest in contests.items():
            found[name].append(contest.run(seed, stand_in))
    gains = {kind: _gains(found["time" if kind == "instance" else "deep"], kind) for kind in RELATIVES}
    small = found["small"]
    return Measured(
        effects={
            **{f"gain_{kind}": gains[kind] for kind in RELATIVES},
            "small_without_batch": [
                min(runs[kind].accuracy for kind in WITHOUT_BATCH) - runs["batch"].accuracy for runs in small
            ],
            "small_batch_renorm": [runs["batch_renorm"].accuracy - runs["batch"].accuracy for runs in small],
        },
        pictures=(_picture(found, gains),),
        numbers={
            "updates": {name: contest.steps for name, contest in contests.items()},
            "batch_size": {name: contest.batch_size for name, contest in contests.items()},
            **{name: _numbers(runs) for name, runs in found.items()},
        },
    )


def _gains(found: Sequence[dict[str, Run]], kind: str) -> list[float]:
    """Training loss without, minus with."""
    return [runs["none"].train_loss - runs[kind].train_loss for runs in found]


def _values(found: Sequence[dict[str, Run]], value: str) -> dict[str, list[float]]:
    return {kind: [getattr(runs[kind], value) for runs in found] for kind in found[0]}


def _numbers(found: Sequence[dict[str, Run]]) -> dict[str, dict[str, list[float]]]:
    return {value: _values(found, value) for value in ("train_loss", "accuracy", "rate")}


def _picture(found: dict[str, list[dict[str, Run]]], gains: dict[str, list[float]]) -> Picture:
    deep, time = (_values(found[name], "train_loss") for name in ("deep", "time"))
    small = _values(found["small"], "accuracy")
    learned = [kind for kind, gain in gains.items() if fmean(gain) > LEARNED]
    said = f"{len(learned)} of {len(gains)} relatives" + (f" ({', '.join(learned)})" if learned else "")
    return Picture(
        "relatives",
        f"{said} make a deep sigmoid network learn, by the mean over seeds",
        (
            Panel("", "training loss (nats)", (_bars(deep),), title="sigmoid network"),
            Panel("", "training loss (nats)", (_bars(time),), title="sigmoid network with a time axis"),
            Panel("", "validation accuracy", (_bars(small),), title=f"the lab's usual network, batches of {SMALL}"),
        ),
    )


def _bars(values: dict[str, list[float]]) -> Bars:
    return Bars([kind.replace("_", "\n") for kind in values], list(values.values()))


EXPERIMENT = Experiment(
    name="norm_relatives",
    title="The relatives of BatchNorm",
    claims={
        "G5": Claim(
            says="Each relative (layer, instance, group, weight and spectral normalisation, batch renormalisation; "
            "also RMSNorm) makes a deep sigmoid network learn that learns nothing without it. With batches of 2, where "
            "BatchNorm fails, those that do not use the batch are better, and so is batch renormalisation.",
            refuted_by="A relative with which the network learns no more than without, or that is no better than "
            "BatchNorm with batches of 2.",
        )
    },
    rules=(
        *(
            Rule(
                "G5", f"gain_{kind}", f"training loss (nats), without minus with {kind}, sigmoid network", above=LEARNED
            )
            for kind in RELATIVES
        ),
        Rule(
            "G5",
            "small_without_batch",
            f"batches of {SMALL}: validation accuracy of the worst of {', '.join(WITHOUT_BATCH)}, minus batch",
            above=0.02,
        ),
        Rule("G5", "small_batch_renorm", f"batches of {SMALL}: accuracy of batch_renorm, minus batch", above=0.02),
    ),
    measure=measure,
)
