"""What kind of point it is: the evidence, and the rule that makes a verdict of it.

A point is critical up to (epsilon, delta, eta), as in second-order stationarity (Nesterov and Polyak 2006): the
gradient is at most epsilon, no direction bends down by more than delta, except with probability eta over the random
start of the eigenvalue computation. A saddle needs no probability: one direction that bends down is proof.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Float
from torch import Tensor

from phoneme.curvature.lanczos import Eigenpair, Interval

VERDICTS = ("not_critical", "saddle", "local_minimum", "local_maximum", "degenerate", "undecided")

# A Newton step lowers the loss by |g|^2 / (2 kappa), kappa the harmonic mean of the |curvatures| that the gradient
# meets: a gradient of a thousandth of sqrt(2 kappa |L|) promises a millionth of the loss. The number does not change
# when loss or parameters are scaled; it does when a constant is added to the loss.
SMALL_GRADIENT = 1e-3
PRODUCT_ROUNDINGS = 1000  # of v^T H v in float64, over the largest |eigenvalue|: measured errors are ten times smaller
NEARBY_FACTOR = 2  # a curvature counts if it is so many times what the step to the critical point changes it by
# Along v the next critical point is where the slope vanishes; it keeps the sign of the curvature if
# h = |g^T v| |third derivative| / curvature^2 is at most 1/2 (Kantorovich's theorem; x^3 beside 0 has h = 1/2).
KANTOROVICH = 8


@dataclass(frozen=True)
class Extreme:
    """The largest or the smallest eigenvalue.

    Some eigenvalue lies within `bound` of `value`: a residual, and an estimate of what rounding did. The extreme itself
    lies between `lower` and `upper`, except with probability `failure`. `multiplicity` counts the copies that rounding
    cannot tell apart; it is known if the whole spectrum is, or if few values are distinct.
    """

    value: float
    bound: float
    lower: float
    upper: float
    failure: float
    multiplicity: int | None = None

    @classmethod
    def of(cls, pair: Eigenpair, interval: Interval, multiplicity: int | None = None) -> "Extreme":
        return cls(pair.value, pair.bound, interval.lower, interval.upper, interval.failure, multiplicity)

    def widened(self, residual: float) -> "Extreme":
        """The same, if its residual turns out to be larger than its bound."""
        more = max(residual - self.bound, 0.0)
        return replace(self, bound=self.bound + more, lower=self.lower - more, upper=self.upper + more)

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class Witness:
    """The direction that bends down most (or up least), looked at in float64: v^T H v here, and a Newton step on.

    Where the gradient is not exactly 0 the critical point is a little away, and the curvature there is what counts:
    beside the floor of a flat valley v^T H v may be a little below 0, and changes by as much on the way to the floor.
    `third` is the derivative of v^T H v along v.
    """

    curvature: float
    nearby: float
    third: float
    bound: float  # what rounding may have changed
    slope: float  # g^T v
    vector: Float[Tensor, " n"]  # v, of length 1

    @property
    def flat(self) -> float:
        """A curvature of at most this has no sign that can be relied on."""
        moved = NEARBY_FACTOR * abs(self.nearby - self.curvature)
        return max(self.bound, moved, math.sqrt(KANTOROVICH * abs(self.slope * self.third)))

    def to_dict(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "vector"}


@dataclass(frozen=True)
class Evidence:
    """What the verdict rests on; all in the loss's unit, lengths in that of the parameters."""

    gradient_norm: float
    gradient_threshold: float
    lambda_min: Extreme
    lambda_max: Extreme
    tolerance: float  # absolute: curvatures within +-tolerance may be called flat where the sign cannot be told
    witness: Witness | None  # along the smallest eigenvector; None if the gradient is not small
    complete: bool  # the whole spectrum is known

    @property
    def critical(self) -> bool:
        return self.gradient_norm <= self.gradient_threshold

    @property
    def flat(self) -> float:
        """delta: a curvature of at most this cannot be told from 0 at this point."""
        return 0.0 if self.witness is None else self.witness.flat

    @property
    def bends_down(self) -> bool:
        return self.witness is not None and self.witness.curvature < -self.flat


def gradient_threshold(loss: float, curvature: float, rounding: float) -> float:
    """The norm up to which a gradient counts as 0: SMALL_GRADIENT sqrt(2 kappa |L|), and never below its `rounding`."""
    return max(SMALL_GRADIENT * gradient_scale(loss, curvature), rounding)


def gradient_scale(loss: float, curvature: float) -> float:
    """sqrt(2 kappa |L|): with a gradient of this norm a Newton step promises the whole loss."""
    return math.sqrt(2 * curvature * abs(loss))


def judge(evidence: Evidence) -> tuple[str, str]:
    """The verdict and its reason, a sentence."""
    if not evidence.critical:
        return "not_critical", _not_critical(evidence)
    if evidence.bends_down:
        return _with_a_way_down(evidence)
    return _without(evidence)


def _not_critical(e: Evidence) -> str:
    times = e.gradient_norm / e.gradient_threshold if e.gradient_threshold else math.inf
    return (
        f"the gradient norm {e.gradient_norm:.3g} is {times:.3g} times the threshold {e.gradient_threshold:.3g}: "
        "the loss still has a slope here, so that a loss that stands still has another reason"
    )


def _with_a_way_down(e: Evidence) -> tuple[str, str]:
    down = (
        f"the gradient norm {e.gradient_norm:.3g} is below the threshold {e.gradient_threshold:.3g}, and along the "
        f"stored direction v the loss bends down: v'Hv = {e.witness.curvature:.3g}, recomputed in float64"
    )
    if e.lambda_max.value - e.lambda_max.bound > e.flat:
        return "saddle", f"{down}, while it bends up along another: lambda_max = {e.lambda_max.value:.3g}"
    if e.lambda_max.upper < -e.flat:
        return "local_maximum", f"{down}; no direction bends up: lambda_max <= {e.lambda_max.upper:.3g}{_odds(e)}"
    if e.lambda_max.upper <= max(e.tolerance, e.flat):
        return (
            "degenerate",
            f"{down}; no direction bends up by more than {e.lambda_max.upper:.3g}, and flat ones remain",
        )
    return "undecided", f"{down}; whether one bends up cannot be told: lambda_max <= {e.lambda_max.upper:.3g}"


def _without(e: Evidence) -> tuple[str, str]:
    low, small = e.lambda_min, f"the gradient norm {e.gradient_norm:.3g} is below {e.gradient_threshold:.3g}"
    if low.lower > e.flat:
        return "local_minimum", f"{small}, and every direction bends up, by {low.lower:.3g} or more{_odds(e)}"
    lowest = min(low.lower, 0.0)
    if max(-lowest, e.witness.curvature) <= max(e.tolerance, e.flat):
        flat = f"{small}, and no direction bends down by more than {-lowest:.3g}{_odds(e)}, but flat ones remain"
        if abs(e.witness.curvature) <= e.flat:
            return (
                "degenerate",
                f"{flat}: along one the curvature is 0, as far as {e.flat:.2g} can be told from it here",
            )
        return "degenerate", f"{flat}, to the tolerance {e.tolerance:.2g}: one has {e.witness.curvature:.3g}"
    return "undecided", (
        f"{small}, but the smallest eigenvalue, between {low.lower:.3g} and {low.upper:.3g}{_odds(e)}, may have either "
        "sign: more products, float64 or the whole spectrum would tell"
    )


def _odds(e: Evidence) -> str:
    if e.complete:
        return " (all eigenvalues were computed)"
    return f", except with probability {e.lambda_min.failure:.3g}"
