"""A3: how far does each remedy close the gap between training and validation?"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from phoneme.augment import Augment
from phoneme.lab.bench import Bench
from phoneme.lab.descent import descend, score
from phoneme.lab.experiment import Experiment, Measured
from phoneme.lab.pictures import Bars, Level, Panel, Picture
from phoneme.lab.rules import Claim, Rule
from phoneme.lab.speech import Frames, Speech
from phoneme.losses import IGNORE

RATE, BATCH = 1e-3, 64  # of Adam: its authors' rate
DEPTH = 3
VALIDATED = 2500  # frames of validation utterances, and as many of others to stop by
LOOKS = 20  # early stopping: validations in a run


@dataclass(frozen=True)
class Remedy:
    """What a network is trained with. The defaults overfit: few frames, many parameters, nothing against it.

    `kept_updates`: AdamW's decay alone would shrink a weight by e in so many updates, 1 / (rate · decay).
    """

    frames: int = 1000
    width: int = 256
    context: int = 11
    augmented: bool = False
    stopped: bool = False
    kept_updates: int | None = None
    dropout: float = 0.0


NOTHING = Remedy()
REMEDIES = MappingProxyType(
    {
        "more_data": Remedy(frames=8000),
        "augmentation": Remedy(augmented=True),
        "fewer_parameters": Remedy(width=16),
        "fewer_features": Remedy(context=1),
        "early_stopping": Remedy(stopped=True),
        "weight_decay": Remedy(kept_updates=100),
        "dropout": Remedy(dropout=0.5),
    }
)
LABELS = MappingProxyType(
    {
        "nothing": "nothing",
        "more_data": "8 times the data",
        "augmentation": "augmentation",
        "fewer_parameters": "16 units, not 256",
        "fewer_features": "1 frame, not 11",
        "early_stopping": "early stopping",
        "weight_decay": "weight decay",
        "dropout": "dropout 0.5",
    }
)


class Windows(NamedTuple):
    """What `Augment` changes."""

    inputs: Tensor


class Augmented(nn.Module):
    """A network that in training sees noisy windows with some frames hidden: other ones in each update."""

    def __init__(self, network: nn.Module, augment: Augment, seed: int, device: torch.device):
        super().__init__()
        self.network, self.augment = network, augment
        self.generator = torch.Generator(device).manual_seed(seed)

    def forward(self, windows: Float[Tensor, "batch context coeff"]) -> Float[Tensor, "batch classes"]:
        if self.training:
            windows = self.augment(Windows(windows), self.generator).inputs
        return self.network(windows)


class Best:
    """Keeps the weights that were best on the frames of other utterances: early stopping, in retrospect."""

    def __init__(self, model: nn.Module, frames: Frames, every: int):
        self.model, self.frames, self.every = model, frames, every
        self.least, self.weights, self.step = float("inf"), copy.deepcopy(model.state_dict()), 0

    def __call__(self, step: int) -> None:
        if step % self.every:
            return
        loss = score(self.model, self.frames).loss
        if loss < self.least:
            self.least, self.weights, self.step = loss, copy.deepcopy(self.model.state_dict()), step


def measure(bench: Bench, steps: int | None = None, remedies: Mapping[str, Remedy] = REMEDIES) -> Measured:
    steps = steps or bench.choose(500, 1000)
    tried = {"nothing": NOTHING, **remedies}
    speech = {context: bench.open_speech(context) for context in {remedy.context for remedy in tried.values()}}
    sides = ("training_loss", "validation_loss", "training_accuracy", "validation_accuracy")
    found: dict[str, dict[str, list[float]]] = {side: {name: [] for name in tried} for side in sides}
    stopped_at = []
    for seed in bench.track(bench.seeds, "overfitting"):
        for name, remedy in tried.items():
            train, stop, val = _frames(speech[remedy.context], remedy, seed)
            model = _model(bench, remedy, seed)
            stopped_at += _train(bench, remedy, model, train, stop, steps, seed)
            for side, frames in (("training", train), ("validation", val)):
                reached = score(model, frames)
                found[f"{side}_loss"][name].append(reached.loss)
                found[f"{side}_accuracy"][name].append(reached.accuracy)
    gaps = {
        name: [val - train for train, val in zip(found["training_loss"][name], values, strict=True)]
        for name, values in found["validation_loss"].items()
    }
    return Measured(
        effects={
            f"gap_{name}": [gap / before for gap, before in zip(gaps[name], gaps["nothing"], strict=True)]
            for name in remedies
        },
        pictures=(_picture(gaps, found["validation_accuracy"]),),
        numbers={**found, "gap": gaps, "updates": steps, "stopped_after": stopped_at},
    )


def _frames(speech: Speech, remedy: Remedy, seed: int) -> tuple[Frames, Frames, Frames]:
    """To train with, to stop by, to validate: no utterance is in two of them."""
    ids = speech.split.val
    return (
        speech.train(remedy.frames, seed),
        speech.frames(ids[::2], VALIDATED, seed),
        speech.frames(ids[1::2], VALIDATED, seed),
    )


def _model(bench: Bench, remedy: Remedy, seed: int) -> nn.Module:
    return bench.model(
        seed,
        context=remedy.context,
        depth=DEPTH,
        width=remedy.width,
        parameters=None,
        norm="none",
        residual=False,
        dropout=remedy.dropout,
    )


def _train(
    bench: Bench, remedy: Remedy, model: nn.Module, train: Frames, stop: Frames, steps: int, seed: int
) -> list[int]:
    """Train `model` where it is; the update it was stopped at, if it was."""
    decay = 0.0 if remedy.kept_updates is None else 1 / (RATE * remedy.kept_updates)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=decay)
    best = Best(model, stop, max(1, steps // LOOKS)) if remedy.stopped else None
    trained = Augmented(model, _augment(remedy, bench), seed, bench.device) if remedy.augmented else model
    descend(trained, train, optimizer, steps=steps, batch_size=BATCH, seed=seed, watch=best)
    if best is None:
        return []
    model.load_state_dict(best.weights)
    return [best.step]


def _augment(remedy: Remedy, bench: Bench) -> Augment:
    """Noise of the deviation of a normalised feature, and two stretches of up to 3 frames hidden."""
    return Augment(
        columns_of=torch.eye(bench.speech.coeffs, dtype=torch.bool),
        window=remedy.context,
        ignore=IGNORE,
        time_masks=2,
        time_frames=3,
        time_share=0.3,
        frequency_masks=0,
        frequency_width=1,
        noise=1.0,
        speed=0.0,
    )


def _picture(gaps: dict[str, list[float]], accuracy: dict[str, list[float]]) -> Picture:
    mean = {name: sum(values) / len(values) for name, values in accuracy.items()}
    smaller = [name for name in gaps if name != "nothing" and sum(gaps[name]) < sum(gaps["nothing"])]
    better = [name for name in smaller if mean[name] > mean["nothing"]]
    labels = [LABELS[name] for name in gaps]
    return Picture(
        "gap",
        f"{len(smaller)} of {len(gaps) - 1} remedies make the gap smaller; {len(better)} of these also make the "
        "validation accuracy higher, by the mean",
        (
            Panel("", "validation loss − training loss (nats)", (Bars(labels, list(gaps.values())),)),
            Panel(
                "",
                "validation accuracy",
                (Bars(labels, list(accuracy.values())), Level("with nothing", mean["nothing"])),
            ),
        ),
    )


def _rule(name: str, what: str) -> Rule:
    return Rule("A3", f"gap_{name}", f"gap in loss with {what}, as a share of the gap with nothing", below=0.9)


EXPERIMENT = Experiment(
    name="overfitting",
    title="Overfitting: what each remedy does to the gap",
    claims={
        "A3": Claim(
            says="A large network on few frames overfits. More data, augmentation, fewer parameters, fewer features, "
            "early stopping, weight decay and dropout each make the gap between training and validation loss smaller.",
            refuted_by="A remedy that leaves nine tenths of the gap or more.",
        )
    },
    rules=(
        _rule("more_data", "8 times the data"),
        _rule("augmentation", "noise and hidden frames"),
        _rule("fewer_parameters", "16 units a layer in place of 256"),
        _rule("fewer_features", "1 frame in place of 11"),
        _rule("early_stopping", "early stopping"),
        _rule("weight_decay", "weight decay"),
        _rule("dropout", "dropout of one half"),
    ),
    measure=measure,
)
