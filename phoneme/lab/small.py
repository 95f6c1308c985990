"""Problems so small that the whole Hessian is cheap: the sinc task of the course, and a little speech."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from torch import Tensor, nn

from phoneme.curvature.objective import Objective
from phoneme.lab.bench import Bench
from phoneme.lab.critical import loss_of
from phoneme.losses import cross_entropy

SINC_POINTS = 32
FRAMES, CLASSES, COMPONENTS = 120, 4, 4
DRAWN = 40  # frames drawn for each that is kept: so many that the commonest phones fill FRAMES


@dataclass(frozen=True)
class Problem:
    """Inputs, targets, the loss, and how many outputs a network has."""

    inputs: Float64[Tensor, "point feature"]
    targets: Tensor
    loss: Callable[[Tensor, Tensor], Tensor]
    outputs: int

    def objective(self, widths: tuple[int, ...], seed: int, weight_decay: float) -> Objective:
        """A tanh network with hidden layers of these widths, its weights drawn from the seed; linear without any."""
        sizes = (self.inputs.shape[1], *widths)
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            hidden = [(nn.Linear(i, o), nn.Tanh()) for i, o in pairwise(sizes)]
            model = nn.Sequential(*(layer for pair in hidden for layer in pair), nn.Linear(sizes[-1], self.outputs))
        model = model.to(self.inputs)
        return Objective(model, self.loss, [(self.inputs, self.targets)], weight_decay=weight_decay)


def sinc(device: torch.device) -> Problem:
    """y = sin(5 pi x) / (5 pi x) at 32 points of [-1, 1]: the course's task of 2021, by the mean squared error."""
    x = torch.linspace(-1, 1, SINC_POINTS, dtype=torch.float64, device=device)[:, None]
    return Problem(x, torch.sinc(5 * x), F.mse_loss, 1)


def little_speech(bench: Bench, seed: int) -> Problem:
    """Which of the 4 commonest phones is it? 120 training frames without context, by their cross-entropy.

    A frame is given by its first 4 principal components, each with variance 1.
    """
    frames = bench.open_speech(1).train(DRAWN * FRAMES, seed)
    common = torch.bincount(frames.targets).argsort(descending=True)[:CLASSES]
    chosen = torch.isin(frames.targets, common).nonzero().flatten()[:FRAMES]
    frames = frames.at(chosen)
    targets = (frames.targets[:, None] == common).int().argmax(dim=1)
    return Problem(principal(frames.inputs.flatten(start_dim=1).double(), COMPONENTS), targets, cross_entropy, CLASSES)


def principal(rows: Float64[Tensor, "row feature"], count: int) -> Float64[Tensor, "row component"]:
    """The first principal components, each of variance 1."""
    left, _, _ = torch.linalg.svd(rows - rows.mean(dim=0), full_matrices=False)
    parts = left[:, :count]
    return parts / parts.std(dim=0)


def descents(
    objective: Objective, starts: Float[Tensor, "run n"], updates: tuple[int, ...], rate: float
) -> Float[Tensor, "snapshot run n"]:
    """Where Adam is after so many updates (ascending) on all data, from each start, side by side."""
    slope = torch.func.vmap(torch.func.grad(loss_of(objective)))
    points = starts.clone()
    optimizer = torch.optim.Adam([points], lr=rate)
    seen = []
    with objective.conditions():
        for before, after in pairwise((0, *updates)):
            for _ in range(after - before):
                points.grad = slope(points).detach()
                optimizer.step()
            seen.append(points.clone())
    return torch.stack(seen)
