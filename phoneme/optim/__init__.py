"""Optimizers by name, and schedules and warm-ups of their learning rate."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import MappingProxyType

import torch
from torch import nn

from phoneme.build import did_you_mean, locate
from phoneme.errors import InputError
from phoneme.optim.schedules import check_warmup_shape, make_schedule, make_warmup

__all__ = ["OPTIMIZERS", "check_warmup_shape", "make_optimizer", "make_schedule", "make_warmup"]


@dataclass(frozen=True)
class Recipe:
    """An optimizer of torch or of pytorch-optimizer: what a user may set, and what differs here from its defaults."""

    path: str
    options: tuple[str, ...]
    defaults: dict[str, float | bool] = field(default_factory=dict)
    has_fused: bool = True  # a kernel that updates all parameters in one pass, on CPU and CUDA

    @property
    def build(self) -> type[torch.optim.Optimizer]:
        """The class, imported when it is asked for: pytorch-optimizer takes half a second."""
        return locate(self.path, "optim.name")


ADAM_OPTIONS = ("betas", "eps", "weight_decay", "amsgrad")
OPTIMIZERS = MappingProxyType(
    {
        "sgd": Recipe("torch.optim.SGD", ("weight_decay",)),
        # 0.9: Sutskever et al. 2013, and every framework's example since
        "momentum": Recipe("torch.optim.SGD", ("momentum", "nesterov", "weight_decay"), {"momentum": 0.9}),
        "adagrad": Recipe(
            "torch.optim.Adagrad",
            ("lr_decay", "weight_decay", "initial_accumulator_value", "eps"),
            has_fused=False,  # on the CPU only
        ),
        "rmsprop": Recipe(
            "torch.optim.RMSprop", ("alpha", "eps", "weight_decay", "momentum", "centered"), has_fused=False
        ),
        "adam": Recipe("torch.optim.Adam", ADAM_OPTIONS),
        "adamw": Recipe("torch.optim.AdamW", ADAM_OPTIONS),
        # Liu et al. 2020
        "radam": Recipe(
            "torch.optim.RAdam", ("betas", "eps", "weight_decay", "decoupled_weight_decay"), has_fused=False
        ),
        # You et al. 2017: weight matrices by the rate trust_coefficient |w| / (|g| + weight_decay |w|); vectors plainly
        "lars": Recipe(
            "pytorch_optimizer.LARS", ("momentum", "trust_coefficient", "nesterov", "weight_decay"), has_fused=False
        ),
        # You et al. 2020, algorithm 2: the decay inside the trust ratio. `adam_debias` leaves out a factor
        # 1 / (1 - beta1^t) outside of it, which would make the first step ten times as long as the rate says.
        "lamb": Recipe(
            "pytorch_optimizer.Lamb",
            ("betas", "eps", "weight_decay"),
            {"weight_decouple": False, "adam_debias": True},
            has_fused=False,
        ),
    }
)


def make_optimizer(
    parameters: Iterable[nn.Parameter], *, name: str, lr: float, fused: bool = True, **options: object
) -> torch.optim.Optimizer:
    """The optimizer of this name: the lecture's family from plain descent to Adam, AdamW, RAdam, LARS and LAMB.

    `fused` takes torch's fused kernel where there is one: a third of the time of an update on the CPU. It has to be
    off in mixed precision, where Lightning refuses to clip gradients beside it.

    Raises InputError for an unknown name, a rate that is not positive and finite, an option this optimizer
    does not have, and a value it refuses (its own words are in the message).
    """
    if name not in OPTIMIZERS:
        raise InputError(
            expected="a known optimizer", got=name, where="optim.name", hint=did_you_mean(name, OPTIMIZERS)
        )
    if not (0.0 < lr < math.inf):
        raise InputError(
            expected="a positive learning rate", got=lr, where="optim.lr", hint="1e-4 is the sample code's"
        )
    recipe = OPTIMIZERS[name]
    for option in options:
        if option not in recipe.options:
            raise InputError(
                expected=f"an option of {name}",
                got=option,
                where=f"optim.{option}",
                hint=did_you_mean(option, recipe.options),
            )
    try:
        kernel = {"fused": True} if fused and recipe.has_fused else {}
        return recipe.build(parameters, lr=lr, **{**recipe.defaults, **options, **kernel})
    except (ValueError, TypeError) as error:
        raise InputError(
            expected=f"values that {name} accepts",
            got=f"{options} ({error})",
            where="optim",
            hint=f"see the documentation of {recipe.path}",
        ) from error
