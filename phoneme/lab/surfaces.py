"""Descent on closed-form surfaces of two parameters: all starts and all rates at once, in float64, on the CPU."""

from collections.abc import Callable

import torch
from jaxtyping import Float64, Int64
from torch import Tensor, nn

from phoneme.lab.pictures import Path, Surface
from phoneme.optim.textbook import Textbook

Height = Callable[[Tensor], Tensor]  # points [..., 2] -> heights [...]
SHOWN = 200  # points of a trajectory in a picture
GRID = 61  # points of a surface along each axis


def roll(
    height: Height,
    starts: Float64[Tensor, "start 2"],
    kind: type[Textbook],
    rates: Float64[Tensor, " rate"],
    *,
    steps: int,
    schedule: Callable[[int], float] | None = None,
    **options: float | bool | tuple[float, float],
) -> Float64[Tensor, "place rate start 2"]:
    """Where each start is before the first and after each of the `steps` updates, at each of the rates.

    `schedule(step)` is a factor of the rates; `options` are the optimizer's. A descent that diverges ends in NaN.
    """
    theta = nn.Parameter(starts.expand(len(rates), *starts.shape).clone())
    optimizer = kind([theta], lr=1.0, **options)
    places = [theta.detach().clone()]
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rates[:, None, None] * (schedule(step) if schedule else 1.0)
        optimizer.zero_grad()
        height(theta).sum().backward()
        optimizer.step()
        places.append(theta.detach().clone())
    return torch.stack(places)


def arrival(heights: Float64[Tensor, "place *run"], goal: float) -> Int64[Tensor, "*run"]:
    """The updates after which the height is below `goal` for good; one more than there were if it never is.

    >>> arrival(torch.tensor([[3.0, 3.0], [0.0, 2.0], [2.0, 1.0], [0.0, 2.0]]).double(), 1.5)
    tensor([3, 4])
    """
    above = ~(heights < goal)  # NaN is not below
    places = torch.arange(1, len(heights) + 1).view(-1, *[1] * (heights.ndim - 1))
    return (above * places).amax(0)


def seen_from_above(height: Height, x: tuple[float, float], y: tuple[float, float], *, log: bool = False) -> Surface:
    """The surface over this rectangle, for a picture; its colours by the logarithm of the height if `log`."""
    across, along = (torch.linspace(*ends, GRID, dtype=torch.float64) for ends in (x, y))
    points = torch.stack(torch.meshgrid(across, along, indexing="xy"), -1)  # [y, x, 2]
    return Surface(across.tolist(), along.tolist(), height(points).tolist(), "loss", log)


def trajectory(label: str, places: Float64[Tensor, "place 2"]) -> Path:
    """A path for a picture; of a long one at most SHOWN places, at equal distances along it."""
    if len(places) > SHOWN:
        walked = places.diff(dim=0).norm(dim=1).cumsum(0)
        marks = torch.linspace(0, walked[-1].item(), SHOWN, dtype=torch.float64)
        chosen = torch.searchsorted(walked, marks).clamp(max=len(places) - 2).unique() + 1
        places = torch.cat([places[:1], places[chosen[1:]]])
    return Path(label, places[:, 0].tolist(), places[:, 1].tolist())
