"""Driving small networks to critical points of any index, where descent does not get there.

Descent on the loss L leaves every saddle. Descent on the squared gradient norm F = |g|^2 / 2 is drawn to all critical
points alike: its gradient is H g, its Gauss-Newton matrix H^2 (McIver and Komornicki 1972; Pennington and Bahri 2017
find the saddles of networks so). Where H is singular F has minima of its own, at which g is not 0: "gradient-flat"
points, and in networks such searches mostly end there (Frye et al. 2021). They are no critical points, and are told
apart here.

The Hessian is dense and exact: for networks of some hundred parameters. Many searches run side by side, one a row.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from phoneme.build import did_you_mean
from phoneme.curvature.critical_point import SMALL_GRADIENT
from phoneme.curvature.minimum_ratio import MinimumRatio, ratio_of
from phoneme.curvature.newton import DAMPING
from phoneme.curvature.objective import Objective
from phoneme.errors import InputError

GOALS = ("critical", "minimum")
ROUNDINGS = 10  # of the gradient, eps max |lambda| max(|theta|, 1) each: below it nothing is left to gain
SOLID = 1e-4  # of the predicted fall: a step that brings less is taken back
# The damping starts at the share START of max |lambda| (squared for F), falls to a third at most after a step that was
# predicted well, and grows by 2, 4, 8, ... after one that was not (Nielsen 1999, "Damping parameter in Marquardt's
# method"). Where it is FURTHEST nothing is left of the step.
START, GROWTH, SHRINK, FURTHEST = 1e-2, 2.0, 1 / 3, 1e12

Loss = Callable[[Tensor], Tensor]  # flat parameters [n] -> scalar


@dataclass(frozen=True)
class Reached:
    """Where a search ended.

    - `point`: theta, flat; `loss`, `gradient_norm` and `eigenvalues` (ascending, of the exact Hessian) there.
    - `relative`: the gradient norm over sqrt(2 kappa |L|), the scale of `phoneme.curvature.analyse`: its square is
      the share of the loss that a Newton step promises.
    - `converged`: `relative` is at most the tolerance, or the gradient is rounding. Only then is it a critical point.
    - `flat_share`: of |g|^2, what lies along directions without curvature (below 1e-7 of the largest): near 1 at a
      gradient-flat point, where the search is stuck without being at a critical point.
    - `updates`: steps that were tried, those that were taken back too.
    """

    point: Float64[Tensor, " n"]
    loss: float
    gradient_norm: float
    relative: float
    eigenvalues: Float64[Tensor, " n"]
    converged: bool
    flat_share: float
    updates: int

    def shares(self, flat: float = DAMPING) -> MinimumRatio:
        """Of positive, zero and negative eigenvalues; zero are those within `flat` times the largest."""
        return ratio_of(self.eigenvalues, flat * float(self.eigenvalues.abs().max()))

    @property
    def index(self) -> int:
        """The number of negative eigenvalues."""
        return round(self.shares().negative.low * len(self.eigenvalues))


@dataclass(frozen=True)
class _Points:
    """Points with what is known there, one a row; `parts` are the gradient's coordinates along the eigenvectors."""

    point: Float64[Tensor, "run n"]
    loss: Float64[Tensor, " run"]
    gradient: Float64[Tensor, "run n"]
    eigenvalues: Float64[Tensor, "run n"]
    vectors: Float64[Tensor, "run n n"]
    parts: Float64[Tensor, "run n"]

    def at(self, rows: Tensor) -> "_Points":
        return _Points(*(value[rows] for value in vars(self).values()))

    def put(self, rows: Tensor, others: "_Points") -> None:
        """Others in place of these rows."""
        for name, value in vars(self).items():
            value[rows] = getattr(others, name)

    @property
    def largest(self) -> Float64[Tensor, " run"]:
        return self.eigenvalues.abs().amax(dim=1)

    @property
    def norm(self) -> Float64[Tensor, " run"]:
        return self.gradient.norm(dim=1)

    @property
    def relative(self) -> Float64[Tensor, " run"]:
        """|g| / sqrt(2 kappa |L|), kappa = g^T g / (g^T |H|^-1 g), |H| with no eigenvalue below the damping."""
        steepness = torch.maximum(self.eigenvalues.abs(), DAMPING * self.largest[:, None])
        promised = (self.parts.square() / steepness).nan_to_num(0.0).sum(
            dim=1
        ) / 2  # by a Newton step; 0 / 0 where H = 0
        return (promised / self.loss.abs()).sqrt().where(self.norm > 0, 0.0)

    def arrived(self, tolerance: float) -> Bool[Tensor, " run"]:
        """Is the gradient small, or all that the last digits of theta and of the Hessian leave of it?"""
        extent = self.point.norm(dim=1).clamp(min=1.0)
        rounding = ROUNDINGS * torch.finfo(self.point.dtype).eps * self.largest * extent
        return (self.relative <= tolerance) | (self.norm <= rounding)

    def flat_share(self) -> Float64[Tensor, " run"]:
        flat = self.eigenvalues.abs() <= DAMPING * self.largest[:, None]
        return (self.parts.square() * flat).sum(dim=1) / self.norm.square().clamp(min=torch.finfo(torch.float64).tiny)


def loss_of(objective: Objective) -> Loss:
    """An objective as a function of its flat parameters, for `reach` inside `objective.conditions()`."""

    def loss(point: Tensor) -> Tensor:
        leaves = objective.selection.split(point)
        shares = [objective.share(batch, objective.outputs(batch, leaves)) for batch in objective.batches]
        return sum(shares) + 0.5 * objective.weight_decay * point.square().sum()

    return loss


def reach(
    loss: Loss,
    starts: Float[Tensor, "run n"],
    goal: str = "critical",
    *,
    tolerance: float = SMALL_GRADIENT / 10,
    max_updates: int = 300,
) -> list[Reached]:
    """From each start to a critical point of any index, or (goal "minimum") downhill to a minimum.

    - "critical": Levenberg-Marquardt on g, the step -(H^2 + mu I)^-1 H g, taken if |g| falls.
    - "minimum": the saddle-free Newton step -(|H| + mu I)^-1 g (Dauphin et al. 2014), taken if the loss falls.

    Far from a critical point mu makes both gradient descent (on |g|^2 / 2 and on L); near one they are Newton's
    method. `tolerance` is that of `Reached.relative`, by default a tenth of what `analyse` calls small. The loss has
    to be twice differentiable by `torch.func`.

    Raises InputError for another goal, for starts that are not float64 (the digits are needed), and for one at which
    the loss is not finite.
    """
    if goal not in GOALS:
        raise InputError(expected="a known goal", got=goal, where="goal", hint=did_you_mean(goal, GOALS))
    if starts.dtype != torch.float64:
        raise InputError(
            expected="starts in float64",
            got=starts.dtype,
            where="the search for critical points",
            hint="starts.double(), and Objective(..., dtype=torch.float64)",
        )
    search = _Search(loss, goal)
    bad = (~search.slope(starts)[1].isfinite()).nonzero().flatten().tolist()
    if bad:
        raise InputError(
            expected="a finite loss at every start",
            got=f"NaN or infinity at start {bad[0]}",
            where="the search for critical points",
            hint="has the network diverged, or is there a NaN in the data?",
        )
    reached, updates = search.run(starts, tolerance, max_updates)
    arrived = reached.arrived(tolerance).tolist()
    measures = zip(reached.loss.tolist(), reached.norm.tolist(), reached.relative.tolist(), strict=True)
    flat_shares = reached.flat_share().tolist()
    return [
        Reached(
            point=reached.point[row],
            loss=value,
            gradient_norm=norm,
            relative=relative,
            eigenvalues=reached.eigenvalues[row],
            converged=arrived[row],
            flat_share=flat_shares[row],
            updates=int(updates[row]),
        )
        for row, (value, norm, relative) in enumerate(measures)
    ]


class _Search:
    """Damped steps side by side, each with a damping of its own."""

    def __init__(self, loss: Loss, goal: str):
        self.of_gradient = goal == "critical"
        self.slope = torch.func.vmap(torch.func.grad_and_value(loss))
        self.bend = torch.func.vmap(torch.func.jacrev(torch.func.grad(loss)))

    def run(
        self, starts: Float64[Tensor, "run n"], tolerance: float, max_updates: int
    ) -> tuple[_Points, Float64[Tensor, " run"]]:
        """The last points, and how many steps each tried."""
        here = self.look(starts)
        share = torch.full_like(here.loss, START)
        growth, updates = torch.full_like(share, GROWTH), torch.zeros_like(share)
        for _ in range(max_updates):
            rows = (~here.arrived(tolerance) & (share < FURTHEST)).nonzero().flatten()
            if not len(rows):
                break
            ratio, points = self.step(here.at(rows), share[rows])
            better = ratio > SOLID
            taken = rows[better]
            if len(taken):
                here.put(taken, self.look(points[better]))
            shrunk = (1 - (2 * ratio - 1) ** 3).clamp(min=SHRINK)
            share[rows] *= torch.where(better, shrunk, growth[rows])
            growth[rows] = torch.where(better, GROWTH, growth[rows] * GROWTH)
            updates[rows] += 1
        return here, updates

    def step(self, here: _Points, share: Float64[Tensor, " run"]) -> tuple[Float64[Tensor, " run"], Tensor]:
        """What the step brings over what it promises, and where it leads."""
        values, parts = here.eigenvalues, here.parts
        damping = (share * here.largest ** (2 if self.of_gradient else 1))[:, None]
        if self.of_gradient:
            along = -parts * values / (values.square() + damping)
            promised = 0.5 * (parts.square() - (parts + values * along).square()).sum(dim=1)
        else:
            along = -parts / (values.abs() + damping)
            promised = -(parts * along + 0.5 * values * along.square()).sum(dim=1)
        points = here.point + (here.vectors @ along[:, :, None])[:, :, 0]
        gradient, loss = self.slope(points)
        fall = self.merit(here.loss, here.gradient) - self.merit(loss.detach(), gradient.detach())
        return (fall / promised).where(promised > 0, -math.inf).nan_to_num(-math.inf), points

    def merit(self, loss: Float64[Tensor, " run"], gradient: Float64[Tensor, "run n"]) -> Float64[Tensor, " run"]:
        """What has to fall."""
        return 0.5 * gradient.square().sum(dim=1) if self.of_gradient else loss

    def look(self, points: Float64[Tensor, "run n"]) -> _Points:
        gradient, loss = (value.detach() for value in self.slope(points))
        full = self.bend(points).detach()
        eigenvalues, vectors = torch.linalg.eigh((full + full.mT) / 2)  # rounding is not symmetric
        parts = (gradient[:, None] @ vectors)[:, 0]
        return _Points(points.clone(), loss, gradient, eigenvalues, vectors, parts)
