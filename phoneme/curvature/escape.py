"""The way out of a saddle: a step along negative curvature, predicted, measured, and searched further."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from phoneme.curvature.objective import Objective
from phoneme.curvature.taylor import FURTHEST, START, Line, trusted_radius
from phoneme.errors import InputError
from phoneme.files import primitives

# Slopes that add less than this share to the predicted decrease do not choose the sign: both are tried.
TIE = 0.05
GOLDEN = (math.sqrt(5) - 1) / 2
SECTIONS = 10  # of a bracket from half to twice the radius: 1.5 GOLDEN^10 = 1.2 % of it
SMALLEST = 1e-8  # in units of max(|theta|, 1): half the digits of float64


@dataclass(frozen=True)
class Escape:
    """What a step downhill along `direction`, the witness times `sign`, does to the loss. Decreases are positive.

    - `radius`: the trusted radius, with Taylor's `predicted` decrease, the `measured` one, and that on the second
      data. None where no radius can be trusted.
    - `best_radius`, `best_measured`, `best_second_measured`: the largest decrease the line search found, on the
      probe set; the second data have no say. None where the loss falls nowhere.
    - `lowered`: the loss falls, by more than rounding. Where it is false nothing was escaped.
    """

    direction: Tensor
    sign: int
    lowered: bool
    radius: float | None
    predicted: float | None
    measured: float | None
    second_measured: float | None
    best_radius: float | None
    best_measured: float | None
    best_second_measured: float | None

    def point(self, objective: Objective, best: bool = True) -> Float[Tensor, " n"]:
        """The parameters after the step, flat: at the best radius, or at the trusted one.

        Raises InputError where there is no such radius.
        """
        radius = self.best_radius if best else self.radius
        if radius is None:
            raise InputError(
                expected="an escape with a radius",
                got="none: " + ("the loss falls nowhere" if best else "Taylor cannot be trusted at any"),
                where="escape",
                hint="look at `lowered` before taking the step; a float64 objective sees smaller decreases",
            )
        return objective.point + radius * self.direction.to(objective.point)

    def to_dict(self) -> dict[str, Any]:
        """Primitives for JSON, without the direction."""
        return primitives({key: value for key, value in vars(self).items() if key != "direction"})


def escape(objective: Objective, witness: Tensor, curvature: int | float, *, second: Objective | None = None) -> Escape:
    """Step from a saddle along the unit vector `witness`, whose curvature v^T H v < 0 is given.

    The sign is the one the gradient favours; where the slope adds less than 5 % to the prediction, the one that
    lowers the loss more at the trusted radius. From there the radius is doubled (or halved) while the loss falls
    further, up to 10 max(|theta|, 1), and refined by golden-section search. `second` is the same function over other
    data. Cost: about 45 forward passes over the probe set, 3 over the second. A float64 objective is advised.

    Raises InputError for a curvature that is not negative, a direction of another size or not of unit length, and a
    second objective over other parameters.
    """
    if not curvature < 0:
        raise InputError(
            expected="a direction of negative curvature",
            got=curvature,
            where="curvature",
            hint="only at a saddle is there one; elsewhere follow the gradient",
        )
    if second is not None and second.selection != objective.selection:
        raise InputError(
            expected="a second objective over the same parameters",
            got=f"{second.size} parameters, the first has {objective.size}",
            where="second",
            hint="make it with the same model and parameters=",
        )
    line = Line(objective, witness, curvature)
    radius = trusted_radius(line)
    sign = _sign(line, radius)

    def decrease(t: float) -> float:
        """Minus infinity where the loss is not a number."""
        fall = line.loss - line.measured(sign * t)
        return -math.inf if math.isnan(fall) else fall

    def on_second(t: float | None) -> float | None:
        if second is None or t is None:
            return None
        start, end = (second.at(line.point(u).to(second.device)).value() for u in (0.0, sign * t))
        return start - end

    best_radius, best = _search(decrease, radius or START * line.extent, line.extent)
    lowered = best > line.rounding
    best_radius = best_radius if lowered else None
    return Escape(
        direction=sign * line.direction,
        sign=sign,
        lowered=lowered,
        radius=radius,
        predicted=None if radius is None else -line.change(sign * radius),
        measured=None if radius is None else decrease(radius),
        second_measured=on_second(radius),
        best_radius=best_radius,
        best_measured=best if lowered else None,
        best_second_measured=on_second(best_radius),
    )


def _sign(line: Line, radius: float | None) -> int:
    """1 or -1: downhill along the gradient; where that is flat, the side on which the loss is lower."""
    trial = radius or START * line.extent
    downhill = -1 if line.slope > 0 else 1
    if abs(line.slope) * trial > TIE * 0.5 * trial**2 * abs(line.curvature):
        return downhill
    ahead, behind = line.measured(downhill * trial), line.measured(-downhill * trial)
    return -downhill if behind < ahead - line.rounding else downhill


def _search(decrease: Callable[[float], float], start: float, extent: float) -> tuple[float, float]:
    """(radius, decrease), the best seen: doubling, or halving where that does not help, then golden sections."""
    found = {start: decrease(start)}

    def fall(radius: float) -> float:
        if radius not in found:
            found[radius] = decrease(radius)
        return found[radius]

    radius, furthest = start, FURTHEST * extent
    while 2 * radius <= furthest and fall(2 * radius) > fall(radius):
        radius *= 2
    if radius == start:
        while radius / 2 >= SMALLEST * extent and (fall(radius / 2) > fall(radius) or fall(radius) <= 0):
            radius /= 2
    low, high = radius / 2, min(2 * radius, furthest)
    for _ in range(SECTIONS):
        left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        low, high = (low, right) if fall(left) >= fall(right) else (left, high)
    return max(found.items(), key=lambda pair: pair[1])
