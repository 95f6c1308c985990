"""Several networks' posteriors into one: the linear or the log-linear pool, with equal or fitted weights."""

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from jaxtyping import Float, Float64, UInt8
from torch import Tensor

from phoneme.build import did_you_mean
from phoneme.decode.posteriors import FLOOR, check_normalised
from phoneme.errors import InputError

AVERAGES = ("linear", "log")
GAP = 1e-5  # nats a frame: the fit ends when no weights can be better by more
MAX_STEPS = 200
AT_ONCE = 65_536  # frames


def check_average(average: str) -> None:
    """Raise InputError unless it is one of `AVERAGES`."""
    if average not in AVERAGES:
        raise InputError(
            expected=" or ".join(AVERAGES),
            got=average,
            where="ensemble.average",
            hint=did_you_mean(average, AVERAGES),
        )


def combine(
    members: Iterable[Float[Tensor, "frame classes"]], weights: Sequence[float], average: str
) -> Float[Tensor, "frame classes"]:
    """Log-posteriors of the ensemble: log Σ_m w_m p_m ("linear"), or log_softmax Σ_m w_m log p_m ("log").

    The linear pool says what a member drawn at random would say, the log pool lets a member that excludes a class veto
    it (Genest & Zidek 1986). `members` is gone through once, so they need not be in memory together; log-posteriors
    are cut at `FLOOR` in the log pool.

    Raises InputError for an unknown average, and for a member whose rows are no log-posteriors.
    """
    check_average(average)
    total = None
    for place, (weight, member) in enumerate(zip(weights, members, strict=True)):
        _check_member(member, place)
        if average == "log":
            part = weight * member.clamp_min(FLOOR)
            total = part if total is None else total.add_(part)
        else:
            part = member + (math.log(weight) if weight else -math.inf)
            total = part if total is None else torch.logaddexp(total, part, out=total)
    assert total is not None, "no members"
    return total.log_softmax(dim=1)


def fit_weights(
    members: Sequence[Float[Tensor, "frame classes"]], labels: UInt8[Tensor, "frame"], average: str
) -> list[float]:
    """The weights on the simplex (w ≥ 0, Σ w = 1) with the largest mean log-likelihood of the labels.

    Both pools are concave in w (for the log pool because log Σ exp is convex), so there is one maximum. Exponentiated
    gradient from equal weights: w_m ∝ w_m exp(η g_m), η doubled after a step that rises and halved until one does
    (Kivinen & Warmuth 1997). By concavity no weights are better by more than max_m g_m - Σ w_m g_m: the fit ends when
    that is below `GAP`.

    Raises InputError for an unknown average, and for a member whose rows are no log-posteriors.
    """
    check_average(average)
    for place, member in enumerate(members):
        _check_member(member, place)
    likelihood = _linear_likelihood(members, labels) if average == "linear" else _log_likelihood(members, labels)
    weights = torch.full((len(members),), 1 / len(members), dtype=torch.float64)
    value, slope = likelihood(weights)
    rate = 1.0
    for _ in range(MAX_STEPS):
        if slope.max() - weights @ slope < GAP or rate < 1e-6:
            break
        trial = (weights.log() + rate * slope).softmax(dim=0)
        trial_value, trial_slope = likelihood(trial)
        if trial_value >= value:
            weights, value, slope, rate = trial, trial_value, trial_slope, 2 * rate
        else:
            rate /= 2
    return weights.tolist()


def _check_member(member: Float[Tensor, "frame classes"], number: int) -> None:
    check_normalised(member, lambda frame: f"frame {frame} of member {number + 1} of the ensemble")


Likelihood = Callable[[Float64[Tensor, "member"]], tuple[Tensor, Float64[Tensor, "member"]]]


def _linear_likelihood(members: Sequence[Tensor], labels: Tensor) -> Likelihood:
    """Mean of log Σ_m w_m p_m(label) and its gradient p_m / Σ w p: the other classes play no part."""
    target = labels.long()[:, None]
    own = torch.stack([member.gather(1, target)[:, 0] for member in members]).double()
    scale = own.amax(dim=0)  # [frame]
    shares = (own - scale).exp()  # [member, frame]

    def likelihood(weights: Float64[Tensor, "member"]) -> tuple[Tensor, Float64[Tensor, "member"]]:
        mixed = weights @ shares
        return (mixed.log() + scale).mean(), (shares / mixed).mean(dim=1)

    return likelihood


def _log_likelihood(members: Sequence[Tensor], labels: Tensor) -> Likelihood:
    """Mean of Σ_m w_m log p_m(label) - log Σ_c exp Σ_m w_m log p_m(c), and its gradient."""
    target = labels.long()[:, None]

    def likelihood(weights: Float64[Tensor, "member"]) -> tuple[Tensor, Float64[Tensor, "member"]]:
        value, slope = 0.0, torch.zeros_like(weights)
        for start in range(0, len(target), AT_ONCE):
            parts = [member[start : start + AT_ONCE].clamp_min(FLOOR) for member in members]
            wanted = target[start : start + AT_ONCE]
            mixed = sum(weight * part for weight, part in zip(weights.tolist(), parts, strict=True))
            value += (mixed.gather(1, wanted)[:, 0] - mixed.logsumexp(dim=1)).double().sum()
            posterior = mixed.softmax(dim=1)
            expected = [(posterior * part).sum(dim=1) for part in parts]
            own = [part.gather(1, wanted)[:, 0] for part in parts]
            slope += torch.stack([(o - e).double().sum() for o, e in zip(own, expected, strict=True)])
        return value / len(target), slope / len(target)

    return likelihood
