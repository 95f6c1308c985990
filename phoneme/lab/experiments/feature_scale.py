"""G1: what does normalising the features do to the error surface, and to the descent on it?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from phoneme.lab.bench import Bench
from phoneme.lab.descent import descend
from phoneme.lab.experiment import Experiment, Measured
from phoneme.lab.pictures import Line, Panel, Picture
from phoneme.lab.rates import Run, best, runs_at, thinned
from phoneme.lab.rules import Claim, Rule
from phoneme.lab.speech import Frames
from phoneme.losses import cross_entropy
from phoneme.models import Linear
from phoneme.wording import digits

# Mean and deviation of the course's 39 columns (13 MFCC of Kaldi with its lifter, deltas, delta-deltas) before their
# normalisation: over 10,854 frames of 24 recordings of LibriSpeech whose features are in the bundled sample.
MEANS = (75.8, -12.9, -8.2, 9.8, -6.0, -3.8, -3.3, -4.1, -1.1, 6.4, -0.8, -2.0, -2.6)
MEANS += (-25.7, -21.6, -14.1, 2.0, -0.4, -2.5, 0.9, 2.3, 1.6, 0.5, -1.1, -2.0, -0.4)
MEANS += (2.7, 6.7, 7.4, 5.2, 2.6, 0.2, 0.9, 0.7, -0.6, -1.1, -0.6, -0.1, 0.3)
DEVIATIONS = (13.2, 17.6, 13.5, 14.9, 18.1, 14.7, 15.6, 13.8, 14.1, 13.3, 11.1, 10.3, 10.6)
DEVIATIONS += (5.2, 5.3, 6.0, 5.5, 4.8, 5.5, 5.2, 4.6, 4.5, 4.1, 4.0, 4.4, 4.1)
DEVIATIONS += (1.4, 2.0, 2.1, 2.5, 2.6, 2.0, 2.2, 2.2, 2.0, 2.0, 1.9, 1.8, 1.3)

LINEAR_FRAMES, FRAMES, BATCH = 2048, 4096, 128
WAY = 0.75  # of the way from the loss of the start to the least possible one
OVER_LARGEST = tuple(2.0**k for k in range(-3, 2))  # rates of the linear model, over 1 / lambda_max of its start
RATES = tuple(4.0**k for k in range(-5, 1))  # of the network
RAW, SCALED, NORMAL = "raw MFCC", "raw scales, means removed", "normalised"


@dataclass(frozen=True)
class Bowl:
    """The surface of the linear softmax model at its start, and the descent on it at the best rate of the grid."""

    eigenvalues: Float64[Tensor, " n"]  # ascending; those that are not 0 for every linear softmax model
    losses: tuple[float, ...]
    updates: int  # until the target, or as many as were made if it was not reached

    @property
    def condition(self) -> float:
        """The largest over the smallest, which counts as rounding at least: columns may depend on each other."""
        largest = float(self.eigenvalues[-1])
        rounding = len(self.eigenvalues) * torch.finfo(torch.float64).eps * largest
        return largest / max(float(self.eigenvalues[0]), rounding)


def restored(frames: Frames, deviations: bool, means: bool) -> Frames:
    """The frames with deviations, and means, as before normalisation; further columns take those of the first again."""
    coeffs = frames.inputs.shape[-1]
    deviation, mean = (
        torch.tensor([values[column % len(values)] for column in range(coeffs)]).to(frames.inputs)
        for values in (DEVIATIONS, MEANS)
    )
    inputs = frames.inputs * deviation if deviations else frames.inputs
    return Frames(inputs + mean if means else inputs, frames.targets)


def curvatures(frames: Frames, classes: int) -> Float64[Tensor, " n"]:
    """Eigenvalues of the Hessian of the linear softmax model with all weights 0, ascending, on single frames.

    There all C classes have the probability 1 / C, and the Hessian is (I / C - 1 1^T / C^2) kron E[z z^T], z = (x, 1):
    each eigenvalue of E[z z^T] over C, C - 1 times, and as many zeros as z is long, because the same vector added to
    the weights of every class changes nothing.
    """
    rows = frames.inputs[:, 0].double()
    with_bias = torch.cat([rows, torch.ones_like(rows[:, :1])], dim=1)
    return torch.linalg.eigvalsh(with_bias.T @ with_bias / len(rows)) / classes


def linear_from_zero(frames: Frames, classes: int) -> nn.Module:
    """All weights 0: the same function whatever the scale of the features."""
    model = Linear(coeffs=frames.inputs.shape[-1], classes=classes, context=1).to(frames.inputs.device)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    return model


def measure(bench: Bench, steps: int | None = None, undo: bool = True) -> Measured:
    """`undo` False leaves the features as they are on every side: then there is nothing that normalising could gain."""
    steps = steps or bench.choose(500, 1500)
    single = bench.open_speech(1)
    sides = {RAW: (undo, undo), SCALED: (undo, False), NORMAL: (False, False)}
    bowls: dict[str, list[Bowl]] = {side: [] for side in sides}
    networks: dict[str, list[Run]] = {side: [] for side in sides}
    for seed in bench.track(bench.seeds, "scales"):
        frames = single.train(LINEAR_FRAMES, seed)
        target = _target(frames, single.classes)
        train, val = bench.speech.train(FRAMES, seed), bench.speech.val(LINEAR_FRAMES, seed)
        for side, how in sides.items():
            bowls[side].append(_bowl(restored(frames, *how), single.classes, target, steps))
            if side != SCALED:
                sets = restored(train, *how), restored(val, *how)
                make = partial(bench.model, seed)
                runs = runs_at(make, *sets, RATES, steps=steps // 2, batch_size=BATCH, seed=seed)
                networks[side].append(best(runs))
    pairs = list(zip(bowls[RAW], bowls[NORMAL], strict=True))
    return Measured(
        effects={
            "condition": [math.log10(raw.condition / normal.condition) for raw, normal in pairs],
            "updates": [math.log10(max(raw.updates, 1) / max(normal.updates, 1)) for raw, normal in pairs],
            "network_loss": [
                raw.train_loss - normal.train_loss for raw, normal in zip(networks[RAW], networks[NORMAL], strict=True)
            ],
        },
        pictures=(
            _picture(
                bowls, networks, fmean(raw.condition for raw, _ in pairs) / fmean(b.condition for b in bowls[NORMAL])
            ),
        ),
        numbers={
            "classes": single.classes,
            "updates_made": {"linear": steps, "network": steps // 2},
            **{side: _numbers(bowls[side], networks[side], single.classes) for side in sides},
        },
    )


def _target(frames: Frames, classes: int) -> float:
    """The loss to come down to. The least possible one is the same on all sides: the weights can undo any scale."""
    model = linear_from_zero(frames, classes)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=500, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = cross_entropy(model(frames.inputs), frames.targets)
        loss.backward()
        return loss

    start = optimizer.step(closure).item()
    return start - WAY * (start - closure().item())


def _bowl(frames: Frames, classes: int, target: float, steps: int) -> Bowl:
    eigenvalues = curvatures(frames, classes)
    descents = []
    for factor in OVER_LARGEST:
        model = linear_from_zero(frames, classes)
        optimizer = torch.optim.SGD(model.parameters(), lr=factor / float(eigenvalues[-1]))
        descents.append(descend(model, frames, optimizer, steps=steps, batch_size=None, seed=0).losses.tolist())
    updates = [next((step for step, loss in enumerate(losses) if loss <= target), steps) for losses in descents]
    first = min(range(len(descents)), key=lambda place: (updates[place], _finite(descents[place][-1])))
    return Bowl(eigenvalues, tuple(descents[first]), updates[first])


def _finite(loss: float) -> float:
    return loss if math.isfinite(loss) else math.inf


def _numbers(bowls: Sequence[Bowl], runs: Sequence[Run], classes: int) -> dict[str, object]:
    linear = {
        "condition_number": [bowl.condition for bowl in bowls],
        "lambda_max": [float(bowl.eigenvalues[-1]) for bowl in bowls],
        "lambda_min": [float(bowl.eigenvalues[0]) for bowl in bowls],
        "trace": [(classes - 1) * float(bowl.eigenvalues.sum()) for bowl in bowls],
        "updates_to_target": [bowl.updates for bowl in bowls],
    }
    network = {
        "rate": [run.rate for run in runs],
        "train_loss": [run.train_loss for run in runs],
        "accuracy": [run.accuracy for run in runs],
    }
    return {"linear": linear, "network": network}


def _picture(bowls: dict[str, list[Bowl]], networks: dict[str, list[Run]], ratio: float) -> Picture:
    spectra = [
        Line(side, list(range(1, len(found[0].eigenvalues) + 1)), [b.eigenvalues.flip(0).tolist() for b in found])
        for side, found in bowls.items()
    ]
    descents = [_curve(side, [bowl.losses for bowl in found]) for side, found in bowls.items()]
    learning = [_curve(side, [run.losses for run in found]) for side, found in networks.items() if found]
    return Picture(
        "scales",
        f"Before normalisation the condition number is {digits(ratio, 2)} times as large as after it",
        (
            Panel(
                "direction, steepest first",
                "curvature (eigenvalue of the Hessian)",
                spectra,
                title="linear model, at its start",
                y_log=True,
            ),
            Panel("update", "training loss (nats)", descents, title="linear model, each at its best rate"),
            Panel("update", "loss of the batch (nats)", learning, title="network, each at its best rate"),
        ),
    )


def _curve(label: str, runs: Sequence[Sequence[float]]) -> Line:
    curves = [thinned(losses) for losses in runs]
    return Line(label, curves[0][0], [curve for _, curve in curves])


EXPERIMENT = Experiment(
    name="feature_scale",
    title="Features before and after normalisation",
    claims={
        "G1": Claim(
            says="Normalising the features rounds the error surface: the condition number of the Hessian falls, and "
            "gradient descent, each side at its best rate, is faster. The bundled features are normalised; they are "
            "given back the means and deviations that their recordings have as raw MFCC.",
            refuted_by="A condition number less than 10 times smaller, or less than half of the updates saved.",
        )
    },
    rules=(
        Rule("G1", "condition", "log10 of the condition number, raw over normalised, linear model", above=1.0),
        Rule("G1", "updates", "log10 of the updates to the same loss, raw over normalised, linear model", above=0.3),
        Rule(
            "G1", "network_loss", "training loss after equal updates, raw minus normalised, network (nats)", above=0.1
        ),
    ),
    measure=measure,
)
