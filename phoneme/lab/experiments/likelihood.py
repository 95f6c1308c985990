"""F2: is the least cross-entropy the greatest likelihood?"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Categorical

from phoneme.lab.bench import Bench
from phoneme.lab.descent import descend
from phoneme.lab.experiment import Experiment, Measured
from phoneme.lab.pictures import Line, Panel, Picture, Points
from phoneme.lab.rules import Claim, Rule
from phoneme.lab.speech import Frames
from phoneme.losses import make_loss

FRAMES, BATCH, RATE = 1024, 128, 0.1
SAME, DRIFT = 1e-12, 1e-9  # relative, in float64, which rounds at 1e-16; hundreds of updates carry that on


def negative_log_likelihood(logits: Tensor, targets: Tensor) -> Tensor:
    """Of the labels, a frame: -1/N ln prod_n p(label_n | frame_n)."""
    return -Categorical(logits=logits).log_prob(targets).sum() / len(targets)


def measure(bench: Bench, steps: int | None = None, label_smoothing: float = 0.0) -> Measured:
    """With `label_smoothing` the cross-entropy is that of other targets, and no likelihood of the labels."""
    steps = steps or bench.choose(150, 400)
    cross_entropy = make_loss("cross_entropy", label_smoothing=label_smoothing)
    found: dict[str, list] = {"values": [], "gradients": [], "trainings": []}
    curves: dict[str, list] = {"cross-entropy": [], "likelihood": []}
    for seed in bench.track(bench.seeds, "likelihood"):
        drawn, model = bench.speech.train(FRAMES, seed), bench.model(seed).double()
        frames = Frames(drawn.inputs.double(), drawn.targets)

        def at_start(loss: Callable[[Tensor, Tensor], Tensor], model=model, frames=frames) -> tuple[float, Tensor]:
            value = loss(model(frames.inputs), frames.targets)
            return value.item(), torch.cat([g.flatten() for g in torch.autograd.grad(value, list(model.parameters()))])

        (entropy, its_gradient), (surprise, other) = at_start(cross_entropy), at_start(negative_log_likelihood)
        found["values"].append(abs(entropy - surprise) / surprise)
        found["gradients"].append(((its_gradient - other).norm() / other.norm()).item())
        losses = []
        for name, loss in (("cross-entropy", cross_entropy), ("likelihood", negative_log_likelihood)):
            model = bench.model(seed).double()
            optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
            run = descend(model, frames, optimizer, steps=steps, batch_size=BATCH, seed=seed, loss=loss)
            losses.append(run.losses)
            curves[name].append(run.losses.tolist())
        found["trainings"].append(((losses[0] - losses[1]).abs() / losses[1]).max().item())
    same = max(found["trainings"]) < DRIFT
    every = max(1, steps // 15)
    picture = Picture(
        "trainings",
        "Minimising the cross-entropy and maximising the likelihood are "
        + ("one and the same training" if same else "different trainings"),
        (
            Panel(
                "update",
                "loss of the batch (nats a frame)",
                (
                    Line("minimise the cross-entropy", list(range(steps)), curves["cross-entropy"][0]),
                    Points(
                        "maximise the likelihood: −(1/N) ln Π p",
                        list(range(0, steps, every)),
                        curves["likelihood"][0][::every],
                    ),
                ),
            ),
        ),
    )
    return Measured(effects=found, pictures=(picture,), numbers={"updates": steps, "frames": FRAMES})


EXPERIMENT = Experiment(
    name="likelihood",
    title="Cross-entropy and likelihood",
    claims={
        "F2": Claim(
            says="Minimising the cross-entropy is maximising the likelihood: the same numbers, the same gradients, the "
            "same training.",
            refuted_by="A difference beyond rounding in value, gradient or training.",
        )
    },
    rules=(
        Rule("F2", "values", "relative difference of −ln(likelihood)/N and the cross-entropy", below=SAME, exact=True),
        Rule("F2", "gradients", "relative difference of their gradients", below=SAME, exact=True),
        Rule("F2", "trainings", "largest relative difference of the losses in training", below=DRIFT, exact=True),
    ),
    measure=measure,
)
