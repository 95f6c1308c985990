"""Learning-rate schedules and warm-ups: pure functions from the step to a factor on `optim.lr`.

A step is one update, counted from 0; the factor of step t is used in update t. A shape runs from step 0 (or
the end of the warm-up) to `total_steps`, where it reaches its end point and stays: the last update,
total_steps - 1, is the one before. These are torch's conventions, with T_max the steps of the shape.

A schedule waits at 1 while the rate warms up; the ramp is a factor of its own, which
`phoneme.callbacks.LearningRateWarmup` puts on whatever rate the schedule has.
"""

import inspect
import math
from collections.abc import Callable
from types import MappingProxyType

from phoneme.build import did_you_mean
from phoneme.errors import InputError


def constant(step: int, steps: int | float) -> float:
    """Always 1."""
    return 1.0


def staircase(step: int, steps: int, *, every: int | float, gamma: int | float = 0.1) -> float:
    """gamma^k after k drops, one each time the share `every` of the steps is over (to the nearest step).

    As torch's StepLR with step_size = every * steps, and with its gamma.

    >>> [staircase(step, 6, every=1 / 3, gamma=0.5) for step in range(7)]
    [1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.125]
    """
    return float(gamma ** (step // max(1, round(every * steps))))


def cosine(step: int, steps: int, *, final: int | float = 0.0) -> float:
    """From 1 down to `final` along half a cosine, without restarts (Loshchilov & Hutter 2017).

    >>> [round(cosine(step, 4, final=0.2), 6) for step in range(5)]
    [1.0, 0.882843, 0.6, 0.317157, 0.2]
    """
    share = (1.0 + math.cos(math.pi * step / steps)) / 2.0
    return share + (1.0 - share) * final


def linear(step: int, steps: int, *, final: int | float = 0.0) -> float:
    """From 1 to `final` in a straight line.

    >>> [linear(step, 4) for step in range(5)]
    [1.0, 0.75, 0.5, 0.25, 0.0]
    """
    share = 1.0 - step / steps
    return share + (1.0 - share) * final


def linear_warmup(step: int, steps: int) -> float:
    """In a straight line: (step + 1) / steps (Goyal et al. 2017, section 2.2).

    >>> [linear_warmup(step, 4) for step in range(4)]
    [0.25, 0.5, 0.75, 1.0]
    """
    return (step + 1) / steps


def cosine_warmup(step: int, steps: int) -> float:
    """Along half a cosine, without a corner at either end: (1 - cos(pi (step + 1) / steps)) / 2.

    >>> [round(cosine_warmup(step, 4), 6) for step in range(4)]
    [0.146447, 0.5, 0.853553, 1.0]
    """
    return (1.0 - math.cos(math.pi * (step + 1) / steps)) / 2.0


def exponential_warmup(step: int, steps: int) -> float:
    """By an equal factor each step, from 1 / steps, where the linear one starts, to 1: the longest at small rates.

    >>> [round(exponential_warmup(step, 4), 6) for step in range(4)]
    [0.25, 0.39685, 0.629961, 1.0]
    """
    return float(steps ** -((steps - 1 - step) / max(steps - 1, 1)))


SCHEDULES = MappingProxyType({"constant": constant, "step": staircase, "cosine": cosine, "linear": linear})
WARMUPS = MappingProxyType({"linear": linear_warmup, "cosine": cosine_warmup, "exponential": exponential_warmup})
RANGES = MappingProxyType(
    {
        "total_steps": ("at least one step", lambda value: value >= 1),
        "warmup_steps": ("0 steps or more", lambda value: value >= 0),
        "every": ("a share of the training in (0, 1]", lambda value: 0.0 < value <= 1.0),
        "gamma": ("a factor in (0, 1]", lambda value: 0.0 < value <= 1.0),
        "final": ("a share of optim.lr in [0, 1]", lambda value: 0.0 <= value <= 1.0),
    }
)


def make_schedule(
    *, name: str, total_steps: int | float, warmup_steps: int = 0, **options: int | float
) -> Callable[[int], float]:
    """The factor on the learning rate at each step: 1 until the warm-up is over, then the named shape.

    `total_steps` is infinite for a training without an end, which only `constant` can follow.

    >>> factor = make_schedule(name="linear", total_steps=6, warmup_steps=2)
    >>> [factor(step) for step in range(8)]
    [1.0, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0]

    Raises InputError for an unknown name, a missing or unknown option, and numbers out of range.
    """
    if name not in SCHEDULES:
        raise InputError(
            expected="a known schedule", got=name, where="schedule.name", hint=did_you_mean(name, SCHEDULES)
        )
    shape = SCHEDULES[name]
    _check_options(name, options)
    _check_numbers(total_steps=total_steps, warmup_steps=warmup_steps, **options)
    if math.isinf(total_steps) and name != "constant":
        raise InputError(
            expected="a training whose length is known",
            got="no limit on the updates",
            where="schedule.name",
            hint="set trainer.max_epochs or trainer.max_steps, or take schedule=constant",
        )
    steps = max(total_steps - warmup_steps, 1)

    def factor(step: int) -> float:
        return shape(max(min(step, total_steps) - warmup_steps, 0), steps, **options)

    return factor


def make_warmup(*, steps: int, shape: str = "linear") -> Callable[[int], float]:
    """The factor of a warm-up at each step: it rises along `shape` and is 1 from the last of its `steps` on.

    No factor is 0, so that no update is lost on a rate of 0.

    >>> factor = make_warmup(steps=2)
    >>> [factor(step) for step in range(4)]
    [0.5, 1.0, 1.0, 1.0]

    Raises InputError for an unknown shape, and for less than one step.
    """
    check_warmup_shape(shape)
    if isinstance(steps, bool) or steps < 1:
        raise InputError(
            expected="at least one update",
            got=steps,
            where="the steps of the warm-up",
            hint="without a warm-up, leave it out",
        )
    ramp = WARMUPS[shape]

    def factor(step: int) -> float:
        return ramp(step, steps) if step < steps - 1 else 1.0

    return factor


def check_warmup_shape(shape: str) -> None:
    """Raise InputError for a name that is not in `WARMUPS`."""
    if shape not in WARMUPS:
        raise InputError(
            expected="a known shape of a warm-up",
            got=shape,
            where="schedule.warmup_shape, or shape of LearningRateWarmup",
            hint=did_you_mean(str(shape), WARMUPS),
        )


def _check_options(name: str, options: dict[str, int | float]) -> None:
    parameters = list(inspect.signature(SCHEDULES[name]).parameters.values())[2:]  # after step and steps
    known = [parameter.name for parameter in parameters]
    needed = [parameter.name for parameter in parameters if parameter.default is parameter.empty]
    for option in options:
        if option not in known:
            raise InputError(
                expected=f"an option of {name}",
                got=option,
                where=f"schedule.{option}",
                hint=did_you_mean(option, known),
            )
    for option in needed:
        if option not in options:
            raise InputError(
                expected="a number",
                got="nothing",
                where=f"schedule.{option}",
                hint=f"the schedule {name} has no default for it",
            )


def _check_numbers(**numbers: int | float) -> None:
    for key, value in numbers.items():
        expected, fits = RANGES[key]
        if not fits(value):
            raise InputError(
                expected=expected,
                got=value,
                where=f"schedule.{key}",
                hint="steps are counted in updates; factors are relative to optim.lr",
            )
