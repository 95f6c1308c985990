"""The lecture's optimizers, written out in the lecture's notation.

theta are the parameters, g the gradient at them, eta the rate (`lr`), t the update, counted from 0. m is the movement
(or, with sigma, the direction), sigma the size of the gradients so far, one number for each parameter. They train what
torch's optimizers train, and can be put in their place: a schedule may change `lr`, the state can be saved and loaded.
Each says where it is torch's own, and where it is not.

sigma^2 is a weighted mean of the squared gradients, its weights add up to 1. epsilon stands outside of the root, as in
torch: g / (sigma + epsilon). (Inside, as in TensorFlow's RMSProp, it would be as if sigma were sqrt(epsilon) at least.)
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from phoneme.errors import InputError

EPSILON = 1e-8  # Kingma & Ba 2015, algorithm 1; torch's RMSprop has it too, its Adagrad 1e-10
LAMBDA = 0.9  # Sutskever et al. 2013
ALPHA = 0.9  # Hinton's lecture 6e, 2012; torch has 0.99
BETAS = (0.9, 0.999)  # Kingma & Ba 2015, algorithm 1

Parameters = Iterable[nn.Parameter] | Iterable[dict[str, Any]]

_MEMORY = ("a share in [0, 1)", lambda value: 0.0 <= value < 1.0, "0 forgets all that was; 0.9 is usual")
_RANGES = MappingProxyType(
    {
        "lr": ("a positive learning rate", lambda value: 0.0 < value < math.inf, "0.01 is a beginning"),
        "eps": ("a small positive number", lambda value: 0.0 < value < math.inf, "without it 0 / 0 is not a number"),
        "momentum": _MEMORY,
        "alpha": _MEMORY,
        "beta1": _MEMORY,
        "beta2": _MEMORY,
    }
)


class Textbook(torch.optim.Optimizer, ABC):
    """theta <- theta + movement, parameter by parameter; the movement is what the optimizers differ in.

    Raises InputError for a rate or an epsilon that is not positive and finite, and for a memory outside [0, 1).
    """

    def __init__(self, parameters: Parameters, **numbers: int | float | bool):
        for name, value in numbers.items():
            if name in _RANGES and not _RANGES[name][1](value):
                expected, _, hint = _RANGES[name]
                raise InputError(expected=expected, got=value, where=f"{type(self).__name__}, {name}", hint=hint)
        super().__init__(parameters, numbers)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """One update of every parameter that has a gradient; the loss of the `closure`, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for theta in group["params"]:
                if theta.grad is not None:
                    theta.add_(self.movement(theta.grad, self.state[theta], group))
        return loss

    @abstractmethod
    def movement(
        self, g: Float[Tensor, "*shape"], state: dict[str, Any], group: dict[str, Any]
    ) -> Float[Tensor, "*shape"]:
        """What is added to a parameter whose gradient is `g`. `state` is empty at t = 0."""


class GradientDescent(Textbook):
    """theta <- theta - eta g. torch's SGD."""

    def __init__(self, parameters: Parameters, *, lr: int | float):
        super().__init__(parameters, lr=lr)

    def movement(
        self, g: Float[Tensor, "*shape"], state: dict[str, Any], group: dict[str, Any]
    ) -> Float[Tensor, "*shape"]:
        return -group["lr"] * g


class Momentum(Textbook):
    """m <- lambda m - eta g, theta <- theta + m, m = 0 at first.

    The lecture has the rate inside of m: the gradient of an update moves theta by the rate *it* had. torch's SGD has it
    outside, b <- lambda b + g, theta <- theta - eta b: a rate that falls slows the old gradients too. While the rate is
    constant m = -eta b, and both are the same.
    """

    def __init__(
        self,
        parameters: Parameters,
        *,
        lr: int | float,
        momentum: int | float = LAMBDA,
    ):
        super().__init__(parameters, lr=lr, momentum=momentum)

    def movement(
        self, g: Float[Tensor, "*shape"], state: dict[str, Any], group: dict[str, Any]
    ) -> Float[Tensor, "*shape"]:
        state["m"] = group["momentum"] * state.get("m", 0.0) - group["lr"] * g
        return state["m"]


class Adagrad(Textbook):
    """sigma_t = sqrt((g_0^2 + … + g_t^2) / (t + 1)), theta <- theta - eta g / sigma.

    The lecture's sigma is the root of the *mean* over all updates so far. Duchi et al. 2011 and torch's Adagrad take
    the *sum*, which is (t + 1) times as much: with the falling rate eta_t = eta / sqrt(t + 1) this one is theirs (but
    for epsilon, which then is eps sqrt(t + 1) there). Without it the steps do not get shorter by themselves.
    """

    def __init__(
        self,
        parameters: Parameters,
        *,
        lr: int | float,
        eps: int | float = EPSILON,
    ):
        super().__init__(parameters, lr=lr, eps=eps)

    def movement(
        self, g: Float[Tensor, "*shape"], state: dict[str, Any], group: dict[str, Any]
    ) -> Float[Tensor, "*shape"]:
        t = state.get("t", 0)
        mean_square = (t * state.get("sigma", torch.zeros_like(g)).square() + g.square()) / (t + 1)
        state["t"], state["sigma"] = t + 1, mean_square.sqrt()
        return -group["lr"] * g / (state["sigma"] + group["eps"])


class RMSProp(Textbook):
    """sigma_0 = |g_0|, sigma_t = sqrt(alpha sigma_{t-1}^2 + (1 - alpha) g_t^2), theta <- theta - eta g / sigma.

    torch's RMSprop starts from sigma^2 = 0 before the first gradient, so that its first sigma is sqrt(1 - alpha) |g_0|:
    its first step is 1 / sqrt(1 - alpha) as long (10 times at its alpha of 0.99). The difference is forgotten as
    alpha^t. With g_0^2 in place of that 0 torch's is this one.
    """

    def __init__(
        self,
        parameters: Parameters,
        *,
        lr: int | float,
        alpha: int | float = ALPHA,
        eps: int | float = EPSILON,
    ):
        super().__init__(parameters, lr=lr, alpha=alpha, eps=eps)

    def movement(
        self, g: Float[Tensor, "*shape"], state: dict[str, Any], group: dict[str, Any]
    ) -> Float[Tensor, "*shape"]:
        before = state.get("sigma", g.abs())
        state["sigma"] = (group["alpha"] * before.square() + (1 - group["alpha"]) * g.square()).sqrt()
        return -group["lr"] * g / (state["sigma"] + group["eps"])


class Adam(Textbook):
    """RMSProp and momentum: theta <- theta - eta m / sigma (Kingma & Ba 2015, algorithm 1).

    m <- beta1 m + (1 - beta1) g and v <- beta2 v + (1 - beta2) g^2 start from 0. Divided by 1 - beta1^(t+1) and
    1 - beta2^(t+1), the sums of the weights so far, they are weighted means of what has been seen: that is the bias
    correction, sigma = sqrt(v / (1 - beta2^(t+1))), and with it this is torch's Adam. (The lecture's RMSProp starts
    from |g_0| instead; both have sigma_0 = |g_0|.) Without it, `bias_correction=False`, the first m / sqrt(v) has the
    size (1 - beta1) / sqrt(1 - beta2), 3.2 at the usual betas, where it should be 1.

    m is here a mean of gradients and has no rate in it, other than in `Momentum`: the rate of today is on all of it.
    """

    def __init__(
        self,
        parameters: Parameters,
        *,
        lr: int | float,
        betas: tuple[int | float, int | float] = BETAS,
        eps: int | float = EPSILON,
        bias_correction: bool = True,
    ):
        beta1, beta2 = betas
        super().__init__(parameters, lr=lr, beta1=beta1, beta2=beta2, eps=eps, bias_correction=bias_correction)

    def movement(
        self, g: Float[Tensor, "*shape"], state: dict[str, Any], group: dict[str, Any]
    ) -> Float[Tensor, "*shape"]:
        beta1, beta2 = group["beta1"], group["beta2"]
        state["t"] = state.get("t", 0) + 1
        state["m"] = beta1 * state.get("m", 0.0) + (1 - beta1) * g
        state["v"] = beta2 * state.get("v", 0.0) + (1 - beta2) * g.square()
        m, v = state["m"], state["v"]
        if group["bias_correction"]:
            m, v = m / (1 - beta1 ** state["t"]), v / (1 - beta2 ** state["t"])
        return -group["lr"] * m / (v.sqrt() + group["eps"])
