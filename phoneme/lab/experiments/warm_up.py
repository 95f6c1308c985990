"""E4: small steps first, while sigma rests on few gradients."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float64
from torch import Tensor

from phoneme.lab.bench import Bench
from phoneme.lab.descent import descend
from phoneme.lab.experiment import Experiment, Measured
from phoneme.lab.pictures import Bars, Line, Panel, Picture
from phoneme.lab.rules import Claim, Rule
from phoneme.lab.speech import Frames
from phoneme.losses import cross_entropy
from phoneme.optim import make_optimizer, make_warmup

DEPTH, BATCH, FRAMES = 8, 128, 4096  # deep and without normalisation, where a wrong early step is not mended
BETAS = (0.9, 0.98)  # Vaswani et al. 2017, section 5.3
WARM_UP = 100  # updates: 2 / (1 - beta2), Ma & Yarats 2021
RATES = (0.003, 0.03)  # the usual one times 3 and times 30: the rules are about the larger
DRAWS = 2  # networks a seed, because at the large rate they differ
GAIN = 0.05  # nats: an effect that one would call one
AGREED = 3.0  # and how much better sigma has to be known at the end of the warm-up; 10 if gradients were independent
SEEN = (1, 2, 5, 10, 20, 50, WARM_UP)  # gradients that sigma rests on
ARMS = {"adam": "Adam", "warm_up": "Adam,\nwarm-up", "radam": "RAdam"}


def disagreement(bench: Bench, frames: Frames, seed: int) -> list[float]:
    """Median over the parameters of |ln sigma - ln sigma'|, after each number of gradients in SEEN.

    sigma and sigma' are the roots of the mean squares of the gradients of other batches, at the same weights, those of
    the start. Parameters that have no gradient, of dead units, are left out.
    """
    model = bench.model(seed, depth=DEPTH, norm="none")
    generator = torch.Generator().manual_seed(seed)
    sums: list[Tensor] = [torch.zeros(()), torch.zeros(())]
    found = []
    for count in range(1, max(SEEN) + 1):
        for side in (0, 1):
            index = torch.randint(len(frames), (BATCH,), generator=generator).to(frames.targets.device)
            batch = frames.at(index)
            gradients = torch.autograd.grad(cross_entropy(model(batch.inputs), batch.targets), model.parameters())
            flat = torch.cat([gradient.flatten() for gradient in gradients])
            sums[side] = flat.square() + sums[side].to(flat)
        if count in SEEN:
            alive = (sums[0] > 0) & (sums[1] > 0)
            found.append((sums[0][alive].log() - sums[1][alive].log()).abs().median() / 2)  # of squares: half
    return torch.stack(found).tolist()


def measure(
    bench: Bench, steps: int | None = None, warm_up: int = WARM_UP, rates: tuple[float, ...] = RATES
) -> Measured:
    """A `warm_up` of 1 update is none. The effects are those at the last of the rates."""
    steps = steps or bench.choose(300, 1200)
    losses = {rate: {arm: [] for arm in ARMS} for rate in rates}
    curves = {arm: [] for arm in ARMS}
    apart = []
    for seed in bench.track(bench.seeds, "warm-up"):
        frames = bench.speech.train(FRAMES, seed)
        apart.append(disagreement(bench, frames, seed))
        for rate in rates:
            for arm in ARMS:
                found = torch.stack([_train(bench, frames, arm, rate, steps, warm_up, seed, n) for n in range(DRAWS)])
                losses[rate][arm].append(found[:, -(steps // 4) :].mean().item())
                if rate == rates[-1]:
                    curves[arm].append(found.mean(0))
    plain, warmed, rectified = (losses[rates[-1]][arm] for arm in ARMS)
    return Measured(
        effects={
            "warm_up": [p - w for p, w in zip(plain, warmed, strict=True)],
            "radam": [p - r for p, r in zip(plain, rectified, strict=True)],
            "early_sigma": [row[0] / row[-1] for row in apart],
        },
        pictures=(_losses(losses, curves), _sigmas(apart)),
        numbers={
            "training_loss_of_the_last_quarter": losses,
            "largest_minus_least_over_seeds": {
                rate: {arm: max(values) - min(values) for arm, values in found.items()}
                for rate, found in losses.items()
            },
            "disagreement_about_sigma": dict(zip(SEEN, zip(*apart, strict=True), strict=True)),
            "updates": steps,
            "warm_up": warm_up,
        },
    )


def _train(
    bench: Bench, frames: Frames, arm: str, rate: float, steps: int, warm_up: int, seed: int, draw: int
) -> Float64[Tensor, " step"]:
    """The losses of a training of the seed's `draw`-th network."""
    drawn = DRAWS * seed + draw
    model = bench.model(drawn, depth=DEPTH, norm="none")
    name = "radam" if arm == "radam" else "adam"
    optimizer = make_optimizer(model.parameters(), name=name, lr=rate, betas=BETAS)
    schedule = make_warmup(steps=warm_up) if arm == "warm_up" else None
    return descend(model, frames, optimizer, steps=steps, batch_size=BATCH, seed=drawn, schedule=schedule).losses


def _losses(losses: dict[float, dict[str, list[float]]], curves: dict[str, list[Float64[Tensor, " step"]]]) -> Picture:
    means = {rate: [sum(values) / len(values) for values in found.values()] for rate, found in losses.items()}
    large = max(losses)
    message = "; ".join(
        f"at η = {rate:g} Adam ends at {adam:.2f} nats, with a warm-up at {warmed:.2f}"
        for rate, (adam, warmed, _) in sorted(means.items(), reverse=True)
    )
    lines = [Line(ARMS[arm].replace("\n", " "), *_smoothed(rows)) for arm, rows in curves.items()]
    bars = [Bars(tuple(ARMS.values()), [found[arm] for arm in ARMS], f"η = {rate:g}") for rate, found in losses.items()]
    return Picture(
        "losses",
        message[0].upper() + message[1:],
        (
            Panel("update", "training loss (nats)", lines, title=f"η = {large:g}"),
            Panel("", "training loss, last quarter (nats)", bars),
        ),
    )


def _smoothed(rows: Sequence[Float64[Tensor, " step"]], window: int = 10) -> tuple[list[int], list[list[float]]]:
    """The mean of each `window` updates, and the update in its middle."""
    means = [row[: len(row) // window * window].view(-1, window).mean(1).tolist() for row in rows]
    return [window // 2 + window * place for place in range(len(means[0]))], means


def _sigmas(apart: list[list[float]]) -> Picture:
    first, last = (sum(row[place] for row in apart) / len(apart) for place in (0, -1))
    message = (
        f"After 1 gradient two σ differ by a factor of {math.exp(first):.1f}, after {WARM_UP} by {math.exp(last):.2f}"
    )
    return Picture(
        "sigma",
        message,
        (
            Panel(
                "gradients that σ rests on",
                "|Δ ln σ| of two samples (median)",
                (Line("", SEEN, apart),),
                x_log=True,
                y_log=True,
            ),
        ),
    )


EXPERIMENT = Experiment(
    name="warm_up",
    title="Small steps first, while σ rests on few gradients",
    claims={
        "E4": Claim(
            says="Early σ rests on few gradients and is uncertain, so Adam at a large rate needs small steps first: a "
            "deep network ends with a smaller training loss with a warm-up, and with RAdam, which corrects for it.",
            refuted_by="As small a loss without warm-up at the large rate, or a σ that is as certain after one "
            "gradient as at the end of the warm-up.",
        )
    },
    rules=(
        Rule(
            "E4",
            "warm_up",
            "training loss (last quarter) of Adam minus that with a warm-up, nats, at η = 0.03",
            above=GAIN,
        ),
        Rule("E4", "radam", "training loss (last quarter) of Adam minus that of RAdam, nats, at η = 0.03", above=GAIN),
        Rule("E4", "early_sigma", "disagreement about σ after 1 gradient over that after 100", above=AGREED),
    ),
    measure=measure,
)
