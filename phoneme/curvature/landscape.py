"""The loss over a line or a plane through a point, and random directions that make such pictures comparable."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from phoneme.curvature.basis import norms
from phoneme.curvature.objective import Objective
from phoneme.curvature.taylor import as_direction
from phoneme.errors import InputError
from phoneme.files import primitives


@dataclass(frozen=True)
class Landscape:
    """L(theta + t d), or L(theta + t d + u e): `losses` [t] or [t, u] over the `radii` of the named `directions`.

    A loss that is not finite, far out, stays infinite or NaN.
    """

    directions: tuple[str, ...]
    radii: tuple[tuple[float, ...], ...]
    losses: Tensor  # float64, on the CPU

    def to_dict(self) -> dict[str, Any]:
        """Primitives for JSON; None for a loss that is not finite."""
        return primitives(vars(self))


def landscape(
    objective: Objective, directions: Mapping[str, Tensor], radii: Sequence[Sequence[int | float]]
) -> Landscape:
    """The loss along one direction or over the plane of two, each with its own radii, in units of its own length.

    A direction is a flat vector [n]: an eigenvector, the difference of two points, `random_direction`. Cost: one
    forward pass over the probe set for each point. A float64 objective is advised where the losses hardly differ.

    Raises InputError for no direction or more than two, another number of radii, and vectors of another size.
    """
    if len(directions) not in (1, 2) or len(radii) != len(directions) or not all(len(each) for each in radii):
        raise InputError(
            expected="one direction or two, and radii for each",
            got=f"{len(directions)} directions and {[len(each) for each in radii]} radii",
            where="landscape",
            hint="landscape(objective, {'lambda_min': v}, [[-0.1, 0.0, 0.1]])",
        )
    vectors = [as_direction(objective, vector) for vector in directions.values()]
    axes = [torch.tensor([float(t) for t in each], dtype=torch.float64) for each in radii]
    steps = torch.cartesian_prod(*axes).reshape(-1, len(axes))  # [point, direction]
    losses = [_loss(objective, vectors, step) for step in steps.tolist()]
    return Landscape(
        directions=tuple(directions),
        radii=tuple(tuple(axis.tolist()) for axis in axes),
        losses=torch.tensor(losses, dtype=torch.float64).reshape([len(axis) for axis in axes]),
    )


def _loss(objective: Objective, vectors: Sequence[Tensor], step: Sequence[float]) -> float:
    point = objective.point.clone()
    for radius, vector in zip(step, vectors, strict=True):
        point += radius * vector
    return objective.at(point).value()


def random_direction(objective: Objective, seed: int, normalise: str = "filter") -> Float[Tensor, " n"]:
    """A Gaussian direction, the same on every device for one seed.

    "filter": each filter, a row of a weight of two or more axes, has the length of the model's own filter, and what has
    one axis (biases, batch norm) is 0 (Li et al. 2018, section 4). A network whose ReLU layers are scaled up and
    down against each other is the same network, and its picture the same. "unit": length 1.

    Raises InputError for another `normalise`, and where every filter is zero.
    """
    if normalise not in ("filter", "unit"):
        raise InputError(
            expected="filter or unit",
            got=normalise,
            where="normalise",
            hint="filter: as Li et al. 2018; unit: length 1",
        )
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(objective.size, generator=generator, dtype=torch.float64)
    if normalise == "unit":
        return (noise / norms(noise[None])).to(objective.point)
    split = objective.selection.split
    parts = [
        _filters(part, like) for part, like in zip(split(noise), split(objective.point.cpu().double()), strict=True)
    ]
    direction = objective.selection.flatten(parts)
    if not direction.any():
        raise InputError(
            expected="a weight of two or more axes that is not zero",
            got=f"none among {', '.join(objective.selection.names)}",
            where="normalise",
            hint="normalise='unit' gives a direction of length 1 at any point",
        )
    return direction.to(objective.point)


def _filters(noise: Tensor, like: Tensor) -> Tensor:
    if noise.dim() < 2:
        return torch.zeros_like(noise)
    rows = noise.flatten(1)  # [filter, entry]
    lengths = like.flatten(1).norm(dim=1, keepdim=True) / rows.norm(dim=1, keepdim=True)
    return (rows * lengths).reshape(noise.shape)
