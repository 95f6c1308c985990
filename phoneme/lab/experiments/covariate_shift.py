"""G4: does BatchNorm help because it holds the distributions still, or because it smooths the surface?

After Santurkar, Tsipras, Ilyas and Madry 2018, "How does batch normalization help optimization?".
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import fmean
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from phoneme.curvature.objective import Objective
from phoneme.errors import InputError
from phoneme.lab.bench import Bench
from phoneme.lab.descent import descend
from phoneme.lab.experiment import Experiment, Measured
from phoneme.lab.pictures import Bars, Line, Panel, Picture
from phoneme.lab.rates import Run, best, runs_at
from phoneme.lab.rules import Claim, Rule
from phoneme.lab.speech import Frames
from phoneme.losses import cross_entropy
from phoneme.optim import make_optimizer
from phoneme.wording import digits

FRAMES, HELD_OUT, PROBE, BATCH = 4096, 2048, 512, 128
NETWORK = {"activation": "relu", "depth": 10}  # theirs is a VGG: ReLU, He's initial weights, 11 layers or more
RATE = 0.1  # theirs; of the trainings that are looked at, with and without BatchNorm
RATES = (0.03, RATE, 0.3, 1.0)  # where the trainings are compared, each at its best
ALONG = (0.5, 1.0, 2.0, 4.0)  # steps along the gradient, in rates
LOOKS = 10  # at the surface during a training
# The noise of their appendix A, in deviations of the unit: its mean and deviation are drawn anew at every pass.
MEAN, DEVIATION, SCATTER = 0.5, 1.25, 0.1
NOISY = "noisy"
HALF_AGAIN, TWICE = 0.18, 0.3  # log10 of 1.5 and of 2: the least ratios that count as more, and as clearly more


class Shifting(nn.Module):
    """Adds covariate shift in training: each unit gets a mean and a scale, drawn anew at every pass, and scatter."""

    def forward(self, rows: Float[Tensor, "batch width"]) -> Float[Tensor, "batch width"]:
        if not self.training:
            return rows
        mean = MEAN * (2 * torch.rand_like(rows[:1]) - 1)
        scale = 1 + (DEVIATION - 1) * torch.rand_like(rows[:1])
        scattered = mean + SCATTER * (2 * torch.rand_like(rows) - 1)
        return rows * (scale + SCATTER * torch.randn_like(rows)) + scattered


def network(bench: Bench, seed: int, kind: str, norm: str) -> nn.Module:
    """`kind` is a norm, or noisy: `norm` and then noise. He's weights (2015), so that all depths have a signal."""
    model = bench.model(seed, norm=norm if kind == NOISY else kind, **NETWORK)
    generator = torch.Generator(device=bench.device).manual_seed(seed)
    for block in model.blocks:
        nn.init.kaiming_normal_(block.linear.weight, nonlinearity="relu", generator=generator)
        nn.init.zeros_(block.linear.bias)
        if kind == NOISY:
            block.norm = nn.Sequential(block.norm, Shifting())
    return model


@dataclass
class Looks:
    """What is seen at some updates of one training; `shift` in deviations an update."""

    updates: list[int] = field(default_factory=list)
    loss_range: list[float] = field(default_factory=list)  # nats
    gradient_change: list[float] = field(default_factory=list)
    smoothness: list[float] = field(default_factory=list)
    shift: list[float] = field(default_factory=list)


def along_the_step(objective: Objective) -> tuple[float, float, float]:
    """From theta along -eta g, eta up to four rates: how the loss varies, how far the gradient turns away, and beta.

    Range of the loss; largest |g(theta - eta g) - g|; largest of that over |eta g|, "effective beta-smoothness" (their
    section 3.1 and figure 4).
    """
    gradient = objective.gradient()
    losses, changes, betas = [objective.value()], [], []
    for step in (RATE * share for share in ALONG):
        there = objective.at(objective.point - step * gradient)
        losses.append(there.value())
        changes.append(float((there.gradient() - gradient).norm()))
        betas.append(changes[-1] / max(step * float(gradient.norm()), 1e-30))
    return max(losses) - min(losses), max(changes), max(betas)


def surface_at(model: nn.Module, probe: Frames) -> tuple[float, float, float]:
    """`along_the_step` from where the model is, with the statistics of the probe; NaN if it has diverged."""
    try:
        objective = Objective(model, cross_entropy, [(probe.inputs, probe.targets)], batchnorm="train")
    except InputError:
        return math.nan, math.nan, math.nan
    return along_the_step(objective)


@torch.no_grad()
def moments(model: nn.Module, frames: Frames) -> tuple[Tensor, Tensor]:
    """[unit]: mean and deviation of what goes into the nonlinearities, in training mode; nothing is stored."""
    seen: list[Tensor] = []
    hooks = [
        block.activation.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0])) for block in model.blocks
    ]
    stored = {name: buffer.clone() for name, buffer in model.named_buffers()}
    functional_call(model, stored, (frames.inputs,))
    for hook in hooks:
        hook.remove()
    rows = torch.cat(seen, dim=1)
    return rows.mean(0), rows.std(0)


def watched(model: nn.Module, train: Frames, *, steps: int, seed: int) -> Looks:
    """Train at `RATE` and look at the surface and at the shift from one update to the next, on the same frames."""
    probe, looks, every = Frames(train.inputs[:PROBE], train.targets[:PROBE]), Looks(), max(steps // LOOKS, 2)
    before: list[tuple[Tensor, Tensor]] = []

    def look(step: int) -> None:
        if step % every == 0:
            looks.updates.append(step)
            seen = surface_at(model, probe)
            for values, value in zip((looks.loss_range, looks.gradient_change, looks.smoothness), seen, strict=True):
                values.append(value)
            before.append(moments(model, probe))
        elif step % every == 1:
            mean, deviation = before[-1]
            looks.shift.append(float(((moments(model, probe)[0] - mean).abs() / deviation.clamp(min=1e-12)).mean()))

    optimizer = make_optimizer(model.parameters(), name="sgd", lr=RATE)
    descend(model, train, optimizer, steps=steps, batch_size=BATCH, seed=seed, watch=look)
    return looks


def measure(bench: Bench, steps: int | None = None, norm: str = "batch") -> Measured:
    """`norm` is compared with none, and, with noise that shifts all distributions behind it, with none again.

    Losses are those of the last batches, in training mode: with the noise, under which the network was trained.
    """
    steps = steps or bench.choose(200, 600)
    kinds = tuple(dict.fromkeys(("none", norm, NOISY)))
    looks: dict[str, list[Looks]] = {kind: [] for kind in kinds}
    runs: dict[str, list[Run]] = {kind: [] for kind in kinds}
    for seed in bench.track(bench.seeds, "covariate shift"):
        train, val = bench.speech.train(FRAMES, seed), bench.speech.val(HELD_OUT, seed)
        for kind in kinds:
            make = partial(network, bench, seed, kind, norm)
            looks[kind].append(watched(make(), train, steps=steps, seed=seed))
            tried = runs_at(make, train, val, RATES, steps=steps, batch_size=BATCH, seed=seed)
            runs[kind].append(best(tried, by="batch_loss"))
    smoother = {
        value: _log_ratios(looks["none"], looks[norm], value)
        for value in ("loss_range", "gradient_change", "smoothness")
    }
    gained = [a.batch_loss - b.batch_loss for a, b in zip(runs["none"], runs[NOISY], strict=True)]
    shifted = _log_ratios(looks[NOISY], looks["none"], "shift")
    return Measured(
        effects={"noisy_shift": shifted, "noisy_gain": gained, **smoother},
        pictures=(_of_shift(looks, runs, shifted, gained), _of_surface(looks, norm, smoother["smoothness"])),
        numbers={
            "updates": steps,
            "rate_of_the_looks": RATE,
            **{kind: _numbers(looks[kind], runs[kind]) for kind in kinds},
        },
    )


def _log_ratios(above: Sequence[Looks], below: Sequence[Looks], value: str) -> list[float]:
    """log10 of the ratio of the geometric means over a training, seed by seed."""
    means = [[fmean(math.log10(max(x, 1e-30)) for x in getattr(looks, value)) for looks in s] for s in (above, below)]
    return [a - b for a, b in zip(*means, strict=True)]


def _numbers(looks: Sequence[Looks], runs: Sequence[Run]) -> dict[str, Any]:
    return {
        "looks": [vars(found) for found in looks],
        "best_rate": [run.rate for run in runs],
        "batch_loss": [run.batch_loss for run in runs],
    }


def _lines(looks: Mapping[str, Sequence[Looks]], kinds: Sequence[str], value: str) -> list[Line]:
    return [
        Line(kind, looks[kind][0].updates, [list(getattr(found, value)) for found in looks[kind]]) for kind in kinds
    ]


def _of_shift(
    looks: dict[str, list[Looks]], runs: dict[str, list[Run]], shifted: Sequence[float], gained: Sequence[float]
) -> Picture:
    times, gain = digits(10 ** fmean(shifted), 2), fmean(gained)
    word = "less" if gain > 0 else "more"
    return Picture(
        "shift",
        f"With noise after the norm there is {times} times the shift of a network without norm, "
        f"and {digits(abs(gain), 2)} nats {word} training loss",
        (
            Panel("update", "shift (deviations an update)", _lines(looks, list(looks), "shift"), y_log=True),
            Panel(
                "",
                "loss of the last batches at the best rate (nats)",
                (Bars(list(runs), [[run.batch_loss for run in found] for found in runs.values()]),),
            ),
        ),
    )


def _of_surface(looks: dict[str, list[Looks]], norm: str, smoothness: Sequence[float]) -> Picture:
    ratio = 10 ** fmean(smoothness)
    word = f"{digits(ratio, 2)} times less" if ratio >= 1 else f"{digits(1 / ratio, 2)} times more"
    kinds = list(dict.fromkeys(("none", norm)))
    labels = {
        "loss_range": "range of the loss along the step (nats)",
        "gradient_change": "change of the gradient along the step",
        "smoothness": "change of the gradient / length of the step",
    }
    return Picture(
        "surface",
        f"Divided by the length of the step, the gradient changes {word} with norm={norm} than without",
        tuple(Panel("update", label, _lines(looks, kinds, value), y_log=True) for value, label in labels.items()),
    )


EXPERIMENT = Experiment(
    name="covariate_shift",
    title="Why BatchNorm helps: covariate shift, or the surface?",
    claims={
        "G4": Claim(
            says="Internal covariate shift is not the reason: with noise behind BatchNorm that shifts every "
            "distribution at every update, clearly more than in a network without BatchNorm, training is still better "
            "than without. The smoother surface is: along a step of the same rate the loss varies less, and the "
            "gradient changes less, also over the length of the step.",
            refuted_by="A noisy network that trains no better than one without BatchNorm, or a loss and a gradient "
            "that change as much along the step.",
        )
    },
    rules=(
        Rule("G4", "noisy_shift", "log10 of the shift an update, noisy BatchNorm over none", above=TWICE),
        Rule(
            "G4",
            "noisy_gain",
            "loss of the last batches, none minus noisy BatchNorm, at the best rates (nats)",
            above=0.05,
        ),
        Rule("G4", "loss_range", "log10 of the range of the loss along a step, none over BatchNorm", above=HALF_AGAIN),
        Rule(
            "G4", "gradient_change", "log10 of the change of the gradient there, none over BatchNorm", above=HALF_AGAIN
        ),
        Rule("G4", "smoothness", "log10 of that change over the length, none over BatchNorm", above=HALF_AGAIN),
    ),
    measure=measure,
)
