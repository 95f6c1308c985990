"""Is the surface too sharp for the learning rate? The largest curvature against the optimizer's own threshold.

On a quadratic, gradient descent with step eta diverges along an eigenvector as soon as its eigenvalue passes 2 / eta;
training rises to that edge and stays (Cohen et al. 2021). The other thresholds are where the iteration of that
optimizer, its preconditioner held fixed, has the eigenvalue -1: x -> -x, from wall to wall of the valley. All are for
steps on the full data; with the noise of small batches training settles below them.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from phoneme.curvature.basis import norms
from phoneme.curvature.hvp import HessianProducts
from phoneme.curvature.lanczos import Matrix, lanczos
from phoneme.curvature.objective import Objective
from phoneme.curvature.parameters import Selection
from phoneme.curvature.taylor import ROUNDINGS, as_direction
from phoneme.errors import InputError
from phoneme.files import primitives

CLEARLY = 0.5  # of what a symmetric jump across a parabola gains; see `bouncing`


def momentum_threshold(
    lr: int | float, momentum: int | float = 0.0, dampening: int | float = 0.0, nesterov: bool = False
) -> float:
    """The curvature at which torch's SGD diverges.

    2 / eta, (2 + 2 beta) / eta with momentum, (2 + 2 beta) / (eta (1 + 2 beta)) with Nesterov's (Cohen et al. 2021,
    appendix); dampening d scales the step by 1 - d.

    >>> [round(momentum_threshold(0.1, *options), 4) for options in ((), (0.9,), (0.9, 0.0, True))]
    [20.0, 38.0, 13.5714]
    """
    return (2 + 2 * momentum) / (lr * (1 - dampening) * (1 + 2 * momentum if nesterov else 1))


def adam_threshold(lr: int | float, beta1: int | float = 0.9) -> float:
    """The preconditioned curvature at which Adam diverges: (2 + 2 beta1) / ((1 - beta1) eta) (Cohen et al. 2022).

    >>> round(adam_threshold(0.1), 9)  # 38 / eta
    380.0
    """
    return (2 + 2 * beta1) / ((1 - beta1) * lr)


@dataclass(frozen=True)
class Preconditioner:
    """What an optimizer makes of the surface: it diverges where lambda_max(D (H + W) D) passes `threshold`.

    D = `scale` = P^(-1/2), the identity if None; H is the Hessian without weight decay and W = diag(`decay`) the decay
    that is added to the gradient.
    """

    name: str
    lr: float
    threshold: float
    scale: Tensor | None
    decay: Tensor


@dataclass(frozen=True)
class Sharpness:
    """The largest (preconditioned) curvature: `value`, an eigenvalue within `bound`, against the `threshold`.

    A `ratio` = value / threshold above 1: on a quadratic the steps would diverge. About 1: the edge of stability.
    """

    value: float
    bound: float
    threshold: float
    ratio: float
    optimizer: str
    lr: float
    preconditioned: bool

    def to_dict(self) -> dict[str, Any]:
        """Primitives for JSON."""
        return primitives(vars(self))


class Preconditioned:
    """D (A + diag(shift)) D as a `Matrix`, from the products of A."""

    def __init__(self, products: Matrix, scale: Tensor | None = None, shift: Tensor | None = None):
        self.size, self.dtype, self.device = products.size, products.dtype, products.device
        self.products = products
        self.scale, self.shift = (None if v is None else v.to(self.device, self.dtype) for v in (scale, shift))

    def __call__(self, vectors: Float[Tensor, "vector n"]) -> Float[Tensor, "vector n"]:
        """The matrix times each row."""
        scaled = vectors if self.scale is None else vectors * self.scale
        images = self.products(scaled)
        images = images if self.shift is None else images + self.shift * scaled
        return images if self.scale is None else images * self.scale


def stability(value: float, bound: float, preconditioner: Preconditioner) -> Sharpness:
    """A curvature that is known already, lambda_max(D (H + W) D) with its bound, against the optimizer's threshold."""
    return Sharpness(
        value=value,
        bound=bound,
        threshold=preconditioner.threshold,
        ratio=value / preconditioner.threshold,
        optimizer=preconditioner.name,
        lr=preconditioner.lr,
        preconditioned=preconditioner.scale is not None,
    )


def sharpness(
    objective: Objective,
    optimizer: torch.optim.Optimizer | Preconditioner,
    *,
    tolerance: float = 1e-2,
    max_products: int = 300,
    seed: int = 0,
) -> Sharpness:
    """The largest eigenvalue of D (H + W) D by Lanczos, to a residual of `tolerance`, against the threshold.

    The weight decay is the optimizer's, in place of the objective's.

    Raises InputError for what `preconditioner` refuses.
    """
    if isinstance(optimizer, torch.optim.Optimizer):
        optimizer = preconditioner(optimizer, objective.model, objective.selection)
    shift = optimizer.decay.to(objective.point) - objective.weight_decay
    matrix = Preconditioned(HessianProducts(objective), optimizer.scale, shift)
    found = lanczos(matrix, top=1, bottom=0, tolerance=tolerance, max_products=max_products, seed=seed)
    return stability(found.top[0].value, found.top[0].bound, optimizer)


# Options that enter a threshold, or turn the direction: one value for all parameter groups.
_SHARED = ("lr", "betas", "momentum", "dampening", "nesterov", "maximize")
_ADAPTIVE = {
    "Adam": ("exp_avg_sq",),
    "AdamW": ("exp_avg_sq",),
    "RMSprop": ("square_avg",),
    "Adagrad": ("sum",),
}


def preconditioner(
    optimizer: torch.optim.Optimizer, model: nn.Module, selection: Selection, *, lr: float | None = None
) -> Preconditioner:
    """What a real optimizer of torch, in its present state, makes of the surface over these parameters.

    `lr` is the rate to judge, the optimizer's own if None: at the end of a schedule that is 0, and says nothing.

    P is that of its last update: for Adam (1 - beta1^t)(sqrt(v / (1 - beta2^t)) + eps) (Cohen et al. 2022), for
    RMSprop sqrt(v) + eps (centred: v less the squared mean), for Adagrad (sqrt(sum) + eps)(1 + (t - 1) lr_decay).
    AdamW's decay w shrinks the parameters beside the step, which moves the edge: P times 1 - eta w / 2.

    Raises InputError for another optimizer, groups with different rates or momenta, a rate of 0, `maximize`, a
    parameter that the optimizer does not have, and one without state where it is needed.
    """
    name = type(optimizer).__name__
    if type(optimizer) not in [getattr(torch.optim, known) for known in ("SGD", *_ADAPTIVE)]:
        raise _refused(
            "one of torch.optim's SGD, Adam, AdamW, RMSprop, Adagrad", name, "make a Preconditioner(...) of your own"
        )
    options = _one_for_all(optimizer)
    lr, momentum = float(options["lr"]) if lr is None else lr, options.get("momentum", 0.0)
    if not 0 < lr < math.inf:
        raise _refused("a positive learning rate", lr, "a schedule has brought it to 0? say lr=... of the last update")
    groups = {parameter: group for group in optimizer.param_groups for parameter in group["params"]}
    own = dict(model.named_parameters())
    scales, decays = [], []
    for parameter_name in selection.names:
        parameter = own[parameter_name]
        if parameter not in groups:
            raise _refused(
                f"a parameter of the {name}", parameter_name, "leave it out, parameters=[...], or pass the same model"
            )
        group = groups[parameter]
        decoupled = group.get("decoupled_weight_decay", False)
        decays.append(torch.full_like(parameter, 0.0 if decoupled else group["weight_decay"], dtype=torch.float64))
        if name in _ADAPTIVE:
            state = _state(optimizer, parameter, parameter_name)
            scales.append(_diagonal(name, group, state, lr).rsqrt())
    threshold = momentum_threshold(lr, momentum, options.get("dampening", 0.0), options.get("nesterov", False))
    if "betas" in options:
        threshold = adam_threshold(lr, float(options["betas"][0]))
    scale = selection.flatten(scales) if scales else None
    if scale is not None and not torch.isfinite(scale).all():
        raise _refused("a positive preconditioner", "zeros in it", "set eps above 0: a squared gradient is 0")
    return Preconditioner(name, lr, threshold, scale, selection.flatten(decays).detach())


def _one_for_all(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The options that all groups have to share."""
    first, *others = optimizer.param_groups
    for option in (option for option in _SHARED if option in first):
        values = [group[option] for group in (first, *others)]
        if any(value != values[0] for value in values):
            raise _refused(f"one {option} for all parameter groups", values, "look at one group, parameters=[...]")
    if first.get("maximize"):
        raise _refused("an optimizer that goes downhill", "maximize=True", "negate the loss instead")
    return {option: first[option] for option in _SHARED if option in first}


def _state(optimizer: torch.optim.Optimizer, parameter: Tensor, parameter_name: str) -> dict[str, Any]:
    name = type(optimizer).__name__
    state = optimizer.state.get(parameter, {})
    if any(key not in state for key in _ADAPTIVE[name]) or not float(state["step"]) > 0:
        raise _refused(
            f"the state of {name} after a step",
            f"none for {parameter_name}",
            "take a step first, or load the optimizer's state; a parameter that never had a gradient has no state",
        )
    return state


def _diagonal(name: str, group: dict[str, Any], state: dict[str, Any], lr: float) -> Tensor:
    """P for one parameter, in its shape, float64."""
    step, eps = float(state["step"]), float(group["eps"])
    if name == "Adagrad":
        return (state["sum"].double().sqrt() + eps) * (1 + (step - 1) * group["lr_decay"])
    if name == "RMSprop":
        mean = state["grad_avg"].double() if group["centered"] else torch.zeros(())
        return (state["square_avg"].double() - mean.square()).clamp(min=0).sqrt() + eps
    beta1, beta2 = (float(beta) for beta in group["betas"])
    squares = state["max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"].double()
    shrunk = 1 - lr * group["weight_decay"] / 2 if group["decoupled_weight_decay"] else 1.0
    return (1 - beta1**step) * ((squares / (1 - beta2**step)).sqrt() + eps) * shrunk


def _refused(expected: str, got: object, hint: str) -> InputError:
    return InputError(expected=expected, got=got, where="the optimizer", hint=hint)


@dataclass(frozen=True)
class Bouncing:
    """The losses `before` and `after` a step and in the `middle` between, the step's length, and what they say.

    `gain` is what the middle lies below the lower end; `share` see `bouncing`, None where the path does not bend up.
    """

    before: float
    after: float
    middle: float
    distance: float
    gain: float
    share: float | None
    bouncing: bool

    def to_dict(self) -> dict[str, Any]:
        """Primitives for JSON; None for a loss that is not finite."""
        return primitives(vars(self))


def bouncing(objective: Objective, before: Tensor, after: Tensor) -> Bouncing:
    """Do successive iterates (flat points) bounce between the walls of a valley? The mean of two lies clearly lower.

    share = (min(before, after) - middle) / (mean(before, after) - middle). On a parabola with its bottom at the share
    s of the step it is 4 min(s, 1 - s) - 1, whatever the parabola's scale: 1 for a jump between equal heights, 0
    where the bottom is at a quarter of the way, negative before. "Bouncing" is a share above 1/2, the bottom in the
    middle quarter of the step (gradient descent: 1.6 < eta lambda < 2.67), with a gain above rounding. On a slope, or
    where nothing moves, there is no such gain.

    Raises InputError for points of another size. A float64 objective is advised.
    """
    points = [as_direction(objective, point) for point in (before, after)]
    first, last = (objective.at(point).value() for point in points)
    middle = objective.at((points[0] + points[1]) / 2).value()
    rounding = ROUNDINGS * torch.finfo(objective.dtype).eps * max(abs(first), abs(last), abs(middle))
    gain, bend = min(first, last) - middle, (first + last) / 2 - middle
    share = gain / bend if bend > rounding and math.isfinite(bend) else None
    return Bouncing(
        before=first,
        after=last,
        middle=middle,
        distance=norms((points[1] - points[0])[None]).item(),
        gain=gain,
        share=share,
        bouncing=share is not None and share > CLEARLY and gain > rounding,
    )
