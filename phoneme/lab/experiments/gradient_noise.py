"""C2: how far is the gradient of a batch from that of all examples?"""

import math
from collections.abc import Callable, Sequence
from statistics import fmean, median

import torch
from jaxtyping import Float
from torch import Tensor, nn

from phoneme.gradients import NoiseScale, noise_scale_per_example
from phoneme.lab.bench import Bench
from phoneme.lab.descent import descend
from phoneme.lab.experiment import Experiment, Measured
from phoneme.lab.pictures import Level, Line, Panel, Picture
from phoneme.lab.rules import Claim, Rule
from phoneme.lab.speech import Frames
from phoneme.losses import cross_entropy
from phoneme.optim import make_optimizer
from phoneme.wording import digits

SIZES = (1, 4, 16, 64, 256, 1024)
LEAST_DRAWS, FRAMES_DRAWN = 32, 512  # batches of a size: at least so many, and of so many frames in all
RATE, BATCH = 1e-3, 128  # of the training, by Adam: its authors' rate
CHUNK, HELD = 64, 2**24  # single gradients held at once, and the most numbers in them: 128 MiB in float64
Loss = Callable[[Tensor, Tensor], Tensor]
Run = tuple[list[float], list[float], NoiseScale]  # errors and cosines by batch size


def gradient(model: nn.Module, loss: Loss, frames: Frames) -> Float[Tensor, " n"]:
    """Of the mean loss over the frames, all parameters in one vector."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    value = loss(model(frames.inputs), frames.targets)
    return torch.cat([g.flatten() for g in torch.autograd.grad(value, trainable, materialize_grads=True)])


def spread(
    model: nn.Module, loss: Loss, frames: Frames, sizes: Sequence[int], seed: int, shuffled: bool = True
) -> tuple[list[float], list[float]]:
    """By batch size B: the root mean square of |g_B - g| / |g|, and the mean cosine of g_B and g, over many batches.

    g is the gradient of all frames. Batches are drawn from them with replacement, so that E g_B = g and
    E |g_B - g|^2 = tr(Sigma) / B exactly, for any B. Not `shuffled`, a batch is a stretch of neighbouring frames.
    """
    generator = torch.Generator().manual_seed(seed)
    full = gradient(model, loss, frames)
    errors, cosines = [], []
    for size in sizes:
        draws = max(LEAST_DRAWS, FRAMES_DRAWN // size)
        if shuffled:
            batches = torch.randint(len(frames), (draws, size), generator=generator)
        else:
            starts = torch.randint(len(frames) - size + 1, (draws, 1), generator=generator)
            batches = starts + torch.arange(size)
        seen = []
        for batch in batches.to(frames.targets.device):
            g = gradient(model, loss, frames.at(batch))
            seen.append(torch.stack([(g - full).square().sum(), torch.cosine_similarity(g, full, dim=0)]))
        square, cosine = torch.stack(seen).mean(0)
        errors.append(square.sqrt() / full.norm())
        cosines.append(cosine)
    return torch.stack(errors).tolist(), torch.stack(cosines).tolist()


def slope(sizes: Sequence[int], errors: Sequence[float]) -> float:
    """Of log error over log size, by least squares.

    >>> round(slope([1, 4, 16], [2.0, 1.0, 0.5]), 6)  # 1 / sqrt(B)
    -0.5
    """
    x, y = ([math.log(value) for value in values] for values in (sizes, errors))
    centre = fmean(x)
    return sum((a - centre) * b for a, b in zip(x, y, strict=True)) / sum((a - centre) ** 2 for a in x)


def measure(
    bench: Bench, sizes: Sequence[int] = SIZES, steps: int = 1000, frames: int = 4096, shuffled: bool = True
) -> Measured:
    """At random weights and after training; the user's own network, if there is one, is the trained one.

    In evaluation mode: the noise is that of the choice of examples, without dropout's. Raises InputError for a network
    of whole utterances, and for a loss of which single examples have no gradient (`mse`).
    """
    own, speech = bench.checkpoint, bench.speech
    loss = own.loss if own else cross_entropy
    found: dict[str, list[Run]] = {"start": [], "trained": []}
    for seed in bench.track(bench.seeds, "gradient noise"):
        train = speech.train(frames, seed)
        for state in found:
            model = own.model if own and state == "trained" else bench.model(seed)
            if state == "trained" and not own:
                optimizer = make_optimizer(model.parameters(), name="adam", lr=RATE)
                descend(model, train, optimizer, steps=steps, batch_size=BATCH, seed=seed)
            training = model.training
            model.eval()
            errors, cosines = spread(model, loss, train, sizes, seed, shuffled)
            chunk = max(1, min(CHUNK, HELD // sum(p.numel() for p in model.parameters())))
            scale = noise_scale_per_example(model, loss, train.inputs, train.targets, chunk=chunk)
            model.train(training)
            found[state].append((errors, cosines, scale))
    start, trained = found["start"], found["trained"]
    return Measured(
        effects={
            "slope_start": [slope(sizes, errors) for errors, _, _ in start],
            "slope_trained": [slope(sizes, errors) for errors, _, _ in trained],
            "error_of_one": [errors[0] for errors, _, _ in trained],
            "error_of_many": [errors[-1] for errors, _, _ in trained],
            "growth": [after[2].value / before[2].value for before, after in zip(start, trained, strict=True)],
        },
        pictures=(_picture(sizes, found),),
        numbers={
            "batch_sizes": list(sizes),
            "frames": frames,
            **{
                state: {
                    "relative_error": [errors for errors, _, _ in runs],
                    "cosine": [cosines for _, cosines, _ in runs],
                    "noise_scale": [scale.to_dict() for _, _, scale in runs],
                }
                for state, runs in found.items()
            },
        },
    )


def _picture(sizes: Sequence[int], found: dict[str, list[Run]]) -> Picture:
    names = {"start": "random weights", "trained": "after training"}
    falls, scales = (
        [digits(median(of(run) for run in runs), 2) for runs in found.values()]
        for of in (lambda run: slope(sizes, run[0]), lambda run: run[2].value)
    )
    message = (
        f"Noise and signal are equal in a batch of {scales[0]} frames at the start, of {scales[1]} after training; "
        f"the error falls as B to the power {falls[0]} and {falls[1]}"
    )
    panels = []
    for place, label in ((0, "error of a batch's gradient, |g_B − g| / |g|"), (1, "cosine to the full gradient")):
        lines = [Line(names[state], sizes, [run[place] for run in runs]) for state, runs in found.items()]
        level = (Level("noise as large as the signal", 1.0),) if place == 0 else ()
        panels.append(Panel("batch size B (frames)", label, (*lines, *level), x_log=True, y_log=place == 0))
    return Picture("noise", message, tuple(panels))


EXPERIMENT = Experiment(
    name="gradient_noise",
    title="How noisy is the gradient of a batch?",
    claims={
        "C2": Claim(
            says="The gradient of a small batch is noisy, that of a large one stable: its error falls as the inverse "
            "root of the batch size. After training it takes larger batches for the same quality: the noise scale, "
            "at which noise and signal are equal (McCandlish et al. 2018), has grown.",
            refuted_by="An error that falls otherwise, single examples that already have the full gradient, a thousand "
            "that do not have it, or a noise scale that stays.",
        )
    },
    rules=(
        Rule(
            "C2",
            "slope_start",
            "exponent of the error over the batch size, random weights",
            above=-0.6,
            below=-0.4,
        ),
        Rule("C2", "slope_trained", "exponent of the error over the batch size, trained", above=-0.6, below=-0.4),
        Rule("C2", "error_of_one", "error of the gradient of 1 frame over the gradient's norm, trained", above=1.0),
        Rule("C2", "error_of_many", "error of the gradient of the largest batch over the norm, trained", below=1.0),
        Rule("C2", "growth", "noise scale after training over that of random weights", above=2.0),
    ),
    measure=measure,
    takes_checkpoint=True,
)
