"""Where the surface is not smooth: units whose activation function has a kink, and how many inputs lie near one.

At a kink the gradient jumps and there is no Hessian; what is computed there is the Hessian of one side. A network of
such units is smooth between the kinks, so they matter as far as a step may carry a unit across.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from phoneme.curvature.objective import Objective
from phoneme.errors import InputError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kinks:
    """Of all `inputs` (example and unit) of kinked functions, `near` are within reach of a kink: this `share`.

    Near means |z - kink| <= `relative_distance` x the root mean square of the inputs of the same call.
    `activations` are the functions' names. 0 `inputs`, with a share of 0: none of them lets its inputs be seen.
    """

    inputs: int
    near: int
    share: float
    relative_distance: float
    activations: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Primitives for JSON."""
        return {**vars(self), "activations": list(self.activations)}


def kinks(objective: Objective, *, relative_distance: float = 1e-3) -> Kinks | None:
    """Count the inputs near a kink over the probe set, by one forward pass; None if no function with a kink is called.

    Seen are PyTorch's piecewise-linear functions and their kin, however they are called: relu, relu6, leaky_relu,
    prelu, rrelu, threshold, hardtanh, hardsigmoid, hardswish, hardshrink, softshrink, selu, elu with alpha != 1, and
    clamp at 0. Padded positions of a sequence count as all others. nn.RNN with ReLU is named, with a warning: its
    inputs stay inside one kernel. Not seen: abs, where, products with masks, maxima (pooling) and a loss's own kinks.

    Raises InputError for a distance that is not positive.
    """
    if not relative_distance > 0:
        raise InputError(
            expected="a positive number",
            got=relative_distance,
            where="relative_distance",
            hint="1e-3 of the root mean square of a layer's inputs is the default",
        )
    watch = _Watch(relative_distance)
    with objective.conditions(), torch.no_grad():
        leaves = objective.leaves()
        for batch in objective.batches:
            with watch:
                objective.outputs(batch, leaves)
    if not watch.names:
        return None
    if not watch.names.isdisjoint(HIDDEN.values()):
        log.warning("the ReLUs of a recurrent layer run inside one kernel: their inputs near a kink are not counted")
    near = int(sum(watch.near))
    share = near / watch.inputs if watch.inputs else 0.0
    return Kinks(watch.inputs, near, share, relative_distance, tuple(sorted(watch.names)))


class _Watch(TorchFunctionMode):
    """Looks at the inputs of kinked functions on their way in; a function within another one is not seen again."""

    def __init__(self, relative_distance: float):
        super().__init__()
        self.relative_distance = relative_distance
        self.inputs, self.near, self.names = 0, [], set()

    def __torch_function__(
        self, func: Callable, types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in KINKS:
            self._count(*KINKS[func], args, kwargs)
        elif func in HIDDEN:
            self.names.add(HIDDEN[func])
        return func(*args, **kwargs)

    def _count(self, name: str, kinks_of: Callable, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        given = dict(kwargs)
        values = args[0] if args else given.pop("input")
        places = kinks_of(*args[1:], **given)
        if not places or not values.is_floating_point() or not values.numel():
            return
        reach = self.relative_distance * values.double().square().mean().sqrt()
        close = torch.zeros_like(values, dtype=torch.bool)
        for place in places:
            close |= (values - place).abs() <= reach
        self.near.append(close.sum())
        self.inputs += values.numel()
        self.names.add(name)


HIDDEN = {torch.rnn_relu: "rnn_relu", torch.rnn_relu_cell: "rnn_relu"}

# The kinks of each function, from its arguments after the input; defaults as PyTorch has them.


def _clamp(min: Any = None, max: Any = None, **_: Any) -> tuple[float, ...]:
    """At 0 it is a ReLU; another limit is taken for a guard against overflow or division by 0."""
    return (0.0,) if any(isinstance(limit, (int, float)) and limit == 0 for limit in (min, max)) else ()


def _hardtanh(min_val: float = -1.0, max_val: float = 1.0, *_: Any, **__: Any) -> tuple[float, ...]:
    return (min_val, max_val)


def _shrink(lambd: float = 0.5, **_: Any) -> tuple[float, ...]:
    return (-lambd, lambd)


_RULES: dict[str, tuple[Callable[..., tuple[float, ...]], tuple[str, ...]]] = {
    "relu": (lambda *_, **__: (0.0,), ("relu", "relu_")),
    "relu6": (lambda *_, **__: (0.0, 6.0), ("relu6",)),
    "prelu": (lambda *_, **__: (0.0,), ("prelu",)),
    "rrelu": (lambda *_, **__: (0.0,), ("rrelu", "rrelu_")),
    "selu": (lambda *_, **__: (0.0,), ("selu", "selu_")),
    "leaky_relu": (
        lambda negative_slope=0.01, *_, **__: (0.0,) if negative_slope != 1 else (),
        ("leaky_relu", "leaky_relu_"),
    ),
    "elu": (lambda alpha=1.0, *_, **__: (0.0,) if alpha != 1 else (), ("elu", "elu_")),
    "threshold": (lambda threshold, *_, **__: (threshold,), ("threshold", "threshold_")),
    "hardtanh": (_hardtanh, ("hardtanh", "hardtanh_")),
    "hardsigmoid": (lambda *_, **__: (-3.0, 3.0), ("hardsigmoid",)),
    "hardswish": (lambda *_, **__: (-3.0, 3.0), ("hardswish",)),
    "hardshrink": (_shrink, ("hardshrink",)),
    "softshrink": (_shrink, ("softshrink",)),
    "clamp": (_clamp, ("clamp", "clamp_", "clip", "clip_")),
    "clamp_min": (_clamp, ("clamp_min", "clamp_min_")),
    "clamp_max": (lambda max=None, **_: _clamp(max=max), ("clamp_max", "clamp_max_")),
}
KINKS: dict[Callable, tuple[str, Callable[..., tuple[float, ...]]]] = {
    getattr(place, spelling): (name, rule)
    for name, (rule, spellings) in _RULES.items()
    for spelling in spellings
    for place in (F, torch, Tensor)
    if hasattr(place, spelling)
}
