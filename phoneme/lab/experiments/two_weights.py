"""B5: the error surface of two weights, on which everything can be seen and checked."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from torch import Tensor, nn

from phoneme.curvature import CriticalPoint, analyse
from phoneme.curvature.hvp import HessianProducts
from phoneme.curvature.inertia import dense
from phoneme.curvature.objective import Objective
from phoneme.lab.bench import Bench
from phoneme.lab.critical import loss_of
from phoneme.lab.experiment import Experiment, Measured
from phoneme.lab.pictures import Line, Panel, Path, Picture, Surface
from phoneme.lab.rules import Claim, Rule
from phoneme.wording import digits

HESSIAN = ((0.0, -2.0), (-2.0, 0.0))  # of the lecture, at the origin
DIAGONAL = (math.sqrt(0.5), math.sqrt(0.5))
BESIDE = 0.05  # how far from the origin the descents start
RATE = 0.05  # below 2 / lambda_max where they end: lambda_max = 2 (w1^2 + w2^2), 4 at (1, 1)
EXTENT, GRID, FLOOR = 1.8, 61, 1e-2  # of the picture; losses below FLOOR have its colour
DRAWN = ((-1.1, 1.4), (1.4, -1.1))  # starts of the paths in it: towards the saddle, and away from it
ROUNDING = 1e-9  # of float64, with room: nothing here is larger than 10


class TwoWeights(nn.Module):
    """y = w1 w2 x; or, "sum", y = (w1 + w2) x, which has no saddle. Both weights start at 0."""

    def __init__(self, combine: str = "product"):
        super().__init__()
        self.combine = combine
        self.weights = nn.Parameter(torch.zeros(2, dtype=torch.float64))

    def forward(self, x: Float[Tensor, "point 1"]) -> Float[Tensor, "point 1"]:
        return x * (self.weights.prod() if self.combine == "product" else self.weights.sum())


def descend_from(
    objective: Objective, starts: Float64[Tensor, "start 2"], steps: int
) -> Float64[Tensor, "step start 2"]:
    """The paths of gradient descent."""
    slope = torch.func.vmap(torch.func.grad(loss_of(objective)))
    path = [starts]
    with objective.conditions():
        for _ in range(steps):
            path.append(path[-1] - RATE * slope(path[-1]).detach())
    return torch.stack(path)


def measure(bench: Bench, combine: str = "product", steps: int = 2000) -> Measured:
    """`combine` "sum" has the loss (1 - w1 - w2)^2: a valley without a saddle."""
    datum = [(torch.ones(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64))]
    model = TwoWeights(combine)
    origin = analyse(model, F.mse_loss, datum)
    objective = Objective(model, F.mse_loss, datum)
    hessian, _ = dense(HessianProducts(objective))
    ends = descend_from(objective, _starts(bench), steps)[-1]
    smallest = min(_eigenvalues(objective, end)[0] for end in ends)
    down = origin.directions["lambda_min"].double()
    eigenvalues = origin.lambda_min.value, origin.lambda_max.value
    return Measured(
        effects={
            "gradient": [origin.gradient_norm],
            "hessian": [(hessian - torch.tensor(HESSIAN, dtype=torch.float64)).abs().max().item()],
            "eigenvalues": [max(abs(eigenvalues[0] + 2), abs(eigenvalues[1] - 2))],
            "direction": [1 - abs(float(down @ torch.tensor(DIAGONAL, dtype=torch.float64)))],
            "escape": [_escaped(origin)],
            "along_escape": [_off_closed_form(objective)],
            "on_valley": [(ends.prod(dim=1) - 1).abs().max().item()],
            "valley_bends_down": [-smallest],
        },
        pictures=(_picture(objective, origin),),
        numbers={
            "verdict_at_origin": origin.verdict,
            "hessian": hessian.tolist(),
            "eigenvalues": eigenvalues,
            "way_out": down.tolist(),
            "escape": None if origin.escape is None else origin.escape.to_dict(),
            "ends": ends.tolist(),
        },
    )


def _starts(bench: Bench) -> Float64[Tensor, "start 2"]:
    """Beside the origin, one a seed, on either side."""
    angles = [torch.rand(1, generator=torch.Generator().manual_seed(seed)).item() for seed in bench.seeds]
    turns = torch.tensor(angles, dtype=torch.float64) * 2 * math.pi
    return BESIDE * torch.stack([turns.cos(), turns.sin()], dim=1)


def _eigenvalues(objective: Objective, point: Float64[Tensor, "2"]) -> list[float]:
    """Of the Hessian, ascending."""
    return torch.linalg.eigvalsh(dense(HessianProducts(objective.at(point)))[0]).tolist()


def _escaped(origin: CriticalPoint) -> float:
    """The share of the loss that the best step along the way out takes away; 0 where there is no way out."""
    if origin.escape is None or not origin.escape.lowered:
        return 0.0
    return origin.escape.best_measured / origin.loss


def _off_closed_form(objective: Objective) -> float:
    """Along (1, 1) / sqrt 2 the lecture's loss is (1 - t^2 / 2)^2: how far off the measured one is, at most."""
    direction = torch.tensor(DIAGONAL, dtype=torch.float64)
    radii = torch.linspace(0, 2, 21).tolist()
    return max(abs(objective.at(t * direction).value() - (1 - t**2 / 2) ** 2) for t in radii)


def _picture(objective: Objective, origin: CriticalPoint) -> Picture:
    starts = torch.tensor(DRAWN, dtype=torch.float64)
    paths = descend_from(objective, starts, 200).unbind(dim=1)
    descents = [Path("gradient descent" if path is paths[0] else "", *path[::2].T.tolist()) for path in paths]
    left = Panel("w₁", "w₂", (_surface(objective), *_arrows(origin), *descents), title="the surface")
    down = origin.directions["lambda_min"].double()
    slope, bend = float(objective.gradient() @ down), origin.lambda_min.value
    far, near = torch.linspace(-2, 2, 81).tolist(), torch.linspace(-1.2, 1.2, 49).tolist()
    right = Panel(
        "step t along the eigenvector u of λ_min",
        "loss",
        (
            Line("measured", far, [objective.at(t * down).value() for t in far]),
            Line("L + t gᵀu + ½ t² λ_min", near, [origin.loss + t * slope + t**2 * bend / 2 for t in near]),
        ),
        title="out of the origin",
    )
    low, high = digits(origin.lambda_min.value), digits(origin.lambda_max.value)
    kind = origin.verdict.replace("_", " ")
    message = f"The origin: {kind}, eigenvalues {low} and {high}; gradient descent ends in the valley"
    return Picture("surface", message, (left, right))


def _surface(objective: Objective) -> Surface:
    axis = torch.linspace(-EXTENT, EXTENT, GRID, dtype=torch.float64)
    second, first = torch.meshgrid(axis, axis, indexing="ij")  # [row of w2, column of w1]
    with objective.conditions():
        losses = torch.func.vmap(loss_of(objective))(torch.stack([first.flatten(), second.flatten()], dim=1))
    grid = losses.detach().clamp(min=FLOOR).reshape(GRID, GRID)
    return Surface(axis.tolist(), axis.tolist(), grid.tolist(), label="loss", log=True)


def _arrows(origin: CriticalPoint) -> list[Path]:
    """Both eigenvectors from the origin, a unit long."""
    found: list[Any] = []
    for end, extreme in (("lambda_min", origin.lambda_min), ("lambda_max", origin.lambda_max)):
        x, y = origin.directions[end].tolist()
        found.append(Path(f"eigenvector, λ = {digits(extreme.value)}", [0.0, x], [0.0, y]))
    return found


EXPERIMENT = Experiment(
    name="two_weights",
    title="The error surface of two weights",
    claims={
        "B5": Claim(
            says="With y = w₁w₂x and the datum (1, 1) the loss is (1 − w₁w₂)². At the origin the gradient is 0 and H = "
            "[[0, −2], [−2, 0]], with the eigenvalues ±2: a saddle. A step along (1, 1)/√2 lowers the loss, and "
            "descent ends in a minimum with w₁w₂ = 1.",
            refuted_by="Other numbers at the origin, no way down, or descents that end elsewhere.",
        )
    },
    rules=(
        Rule("B5", "gradient", "gradient norm at the origin", below=ROUNDING, exact=True),
        Rule("B5", "hessian", "largest difference from [[0, −2], [−2, 0]]", below=ROUNDING, exact=True),
        Rule("B5", "eigenvalues", "largest difference of the two ends from −2 and 2", below=ROUNDING, exact=True),
        Rule("B5", "direction", "1 − |cosine| of the way out and (1, 1)/√2", below=ROUNDING, exact=True),
        Rule("B5", "escape", "share of the loss that a step along the way out takes away", above=0.99, exact=True),
        Rule("B5", "along_escape", "largest difference from (1 − t²/2)², t to 2", below=ROUNDING, exact=True),
        Rule("B5", "on_valley", "largest |w₁w₂ − 1| where descents end", below=1e-6, exact=True),
        Rule("B5", "valley_bends_down", "minus the smallest eigenvalue there", below=1e-6, exact=True),
    ),
    measure=measure,
)
