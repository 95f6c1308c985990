"""Taylor's second-order model of the loss along a direction, against the loss that is measured."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from phoneme.curvature.basis import inner, norms
from phoneme.curvature.objective import Objective
from phoneme.errors import InputError
from phoneme.files import primitives

ACCURACY = 0.2  # of the predicted change: what "Taylor holds" means here
# What a loss, taken twice along different roundings, may differ by: ROUNDINGS eps (|L| + |curvature| |theta|^2). The
# second term stands for the logits of a loss that is nearly 0, in the loss's unit.
ROUNDINGS = 10
# In units of max(|theta|, 1): the search begins where the third order is felt in most networks, and ends where the
# point has become another network.
START, FURTHEST = 0.01, 10.0
HALVINGS = 3  # of the last doubling, on a log scale: the radius is right to 2^(1/8), 9 %
POINTS, REACH = 21, 2.5  # of the default radii: so far beyond the trusted one that a picture shows where Taylor ends
ORDERS = 8  # halvings of the radius over which the error's order is fitted
UNIT = 1e-3  # how far a "unit vector" may be from length 1: float32 sums are off by 1e-4


class Line:
    """The loss along a unit vector v: L(theta + t v), and Taylor's L + t g^T v + t^2 / 2 v^T H v.

    `slope` is g^T v, computed here if None, and `curvature` v^T H v. Attributes: these, `loss` L(theta), `rounding`,
    what a difference of two losses may be off by, and `extent`, max(|theta|, 1).

    Near a critical point losses differ in late digits: a float64 objective is advised.

    Raises InputError for a vector of another size or not of unit length.
    """

    def __init__(
        self, objective: Objective, direction: Tensor, curvature: int | float, slope: int | float | None = None
    ):
        self.objective, self.direction = objective, _unit(objective, direction)
        self.loss, self.curvature = objective.value(), float(curvature)
        self.slope = inner(objective.gradient()[None], self.direction[None]).item() if slope is None else float(slope)
        self.extent = max(norms(objective.point[None]).item(), 1.0)
        size = abs(self.loss) + abs(self.curvature) * self.extent**2
        self.rounding = ROUNDINGS * torch.finfo(objective.dtype).eps * size

    def point(self, radius: float) -> Float[Tensor, " n"]:
        """theta + t v."""
        return self.objective.point + radius * self.direction

    def measured(self, radius: float) -> float:
        """The loss at theta + t v; one forward pass over the probe set."""
        return self.objective.at(self.point(radius)).value() if radius else self.loss

    def change(self, radius: float) -> float:
        """What Taylor predicts for L(theta + t v) - L(theta)."""
        return radius * self.slope + 0.5 * radius**2 * self.curvature

    def scale(self, radius: float) -> float:
        """|t g^T v| + |t^2 / 2 v^T H v|: the size of the predicted change, without its zero where the terms cancel."""
        return abs(radius * self.slope) + abs(0.5 * radius**2 * self.curvature)

    def error(self, radius: float) -> float:
        """|measured - predicted| change, the larger one of t and -t; not finite where the loss is not."""
        return max(
            (abs(self.measured(t) - self.loss - self.change(t)) for t in (radius, -radius)),
            key=lambda e: math.inf if math.isnan(e) else e,
        )

    @property
    def least_radius(self) -> float | None:
        """Below it `rounding` is more than `ACCURACY` of the predicted change; None if no change is predicted."""
        if self.slope == 0 and self.curvature == 0:
            return None
        needed = self.rounding / ACCURACY
        return 2 * needed / (abs(self.slope) + math.sqrt(self.slope**2 + 2 * abs(self.curvature) * needed))


def trusted_radius(line: Line) -> float | None:
    """The largest radius up to which Taylor predicts the change of the loss to within 20 %, in both directions.

    The error is taken relative to |t g^T v| + |t^2 / 2 v^T H v|: where both terms go down, as on the downhill side of
    negative curvature, that is the predicted change itself; elsewhere the terms may cancel, and nothing is within
    20 % of zero.

    Found by doubling or halving from max(|theta|, 1) / 100, so smaller radii are not each tried. A quadratic is right
    everywhere: the search ends at 10 max(|theta|, 1). None where the prediction fails as far down as rounding lets
    it be checked: at a kink, or with a wrong curvature; or where rounding hides all of it.
    """
    least, furthest = line.least_radius, FURTHEST * line.extent
    if least is None or least > furthest:
        return None

    def holds(radius: float) -> bool:
        return line.error(radius) <= ACCURACY * line.scale(radius)

    low = high = max(START * line.extent, least)
    if holds(low):
        while low < furthest and holds(high := min(2 * low, furthest)):
            low = high
    else:
        while not holds(low := max(high / 2, least)):
            if low <= least:
                return None
            high = low
    for _ in range(HALVINGS if low < high else 0):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def error_order(line: Line, radius: float) -> float | None:
    """p in |measured - predicted| ~ t^p, fitted over `radius` / 2, / 4, ..., as far as rounding lets the error be seen.

    3 for a smooth surface, 4 where it is symmetric along v, 2 for a wrong curvature or a kink. None where fewer than
    three errors can be seen: on a quadratic there is none.
    """
    radii = [radius / 2**k for k in range(1, ORDERS + 1)]
    seen = [(math.log(t), math.log(e)) for t in radii if line.rounding < (e := line.error(t)) < math.inf]
    if len(seen) < 3:
        return None
    x, y = torch.tensor(seen, dtype=torch.float64).T
    x = x - x.mean()
    return float(x @ y / (x @ x))


@dataclass(frozen=True)
class TaylorSlice:
    """The loss along a direction: `predicted` by Taylor's second-order model and `measured`, at signed `radii`.

    `direction` is a name, `slope` g^T v and `curvature` v^T H v; `trusted_radius` see there.
    """

    direction: str
    slope: float
    curvature: float
    radii: tuple[float, ...]
    predicted: tuple[float, ...]
    measured: tuple[float, ...]
    trusted_radius: float | None

    def to_dict(self) -> dict[str, Any]:
        """Primitives for JSON; None for a loss that is not finite."""
        return primitives(vars(self))


def taylor(
    objective: Objective,
    direction: Tensor,
    *,
    name: str,
    curvature: int | float,
    slope: int | float | None = None,
    radii: Sequence[int | float] | None = None,
) -> TaylorSlice:
    """The slice along the unit vector `direction`, whose curvature v^T H v is given; the slope is computed if None.

    The default radii are 21, evenly out to 2.5 trusted radii on both sides, or to max(|theta|, 1) / 100 where no
    radius can be trusted. Cost: about 40 forward passes over the probe set. A float64 objective is advised.

    Raises InputError for a direction of another size or not of unit length.
    """
    line = Line(objective, direction, curvature, slope)
    trusted = trusted_radius(line)
    if radii is None:
        reach = START * line.extent if trusted is None else REACH * trusted
        half = POINTS // 2
        radii = [reach * k / half for k in range(-half, half + 1)]
    radii = tuple(float(radius) for radius in radii)
    return TaylorSlice(
        direction=name,
        slope=line.slope,
        curvature=line.curvature,
        radii=radii,
        predicted=tuple(line.loss + line.change(radius) for radius in radii),
        measured=tuple(line.measured(radius) for radius in radii),
        trusted_radius=trusted,
    )


def _unit(objective: Objective, direction: Tensor) -> Tensor:
    direction = as_direction(objective, direction)
    length = norms(direction[None]).item()
    if not abs(length - 1) <= UNIT:
        raise InputError(
            expected="a direction of length 1",
            got=f"one of length {length:.6g}",
            where="direction",
            hint="divide it by its norm: radii and curvature are per unit of length",
        )
    return direction


def as_direction(objective: Objective, direction: Tensor) -> Tensor:
    """The flat vector in the objective's precision, on its device.

    Raises InputError for another size and for numbers that are not finite.
    """
    if direction.shape != (objective.size,) or not torch.isfinite(direction).all():
        raise InputError(
            expected=f"a flat vector of {objective.size} finite numbers",
            got=f"shape {list(direction.shape)}, {int((~torch.isfinite(direction)).sum())} of them not finite",
            where="direction",
            hint="objective.selection.flatten makes one from tensors in the parameters' shapes",
        )
    return direction.detach().to(objective.point)
