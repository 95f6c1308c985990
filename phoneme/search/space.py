"""The space of a search: which settings vary, over what, and how a point in it is written on a command line."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial

from phoneme.build import did_you_mean
from phoneme.errors import InputError

Value: TypeAlias = bool | int | float | str | None
Distribution: TypeAlias = FloatDistribution | IntDistribution | CategoricalDistribution
Space: TypeAlias = dict[str, Distribution]

KINDS = ("uniform", "log", "int", "log_int", "choice")
WORDS = ("true", "false", "null", "nan", "inf")  # that Hydra reads as something else than a string
EDGE_SHARE = 0.05  # of a range, at each end: nearer than a neighbour among 20 even points


def read_space(section: Mapping[str, Any]) -> Space:
    """The distribution of each setting: `{"optim": {"lr": {"log": [1e-4, 1e-2]}}}`, or with "optim.lr" as one key.

    Kinds: `uniform` and `log` are intervals of floats, `int` and `log_int` of integers with both ends, `choice` a list.
    What is null is left out, so that a setting or a kind can be taken out of a space on the command line.

    >>> space = read_space({"optim": {"lr": {"log": [1e-4, 1e-2]}}, "model.depth": {"int": [2, 6]}})
    >>> list(space), space["model.depth"].high
    (['optim.lr', 'model.depth'], 6)

    Raises InputError for an empty space, an unknown kind, two kinds for one setting, and ends that are no interval.
    """
    space = dict(_settings("", section))
    if not space:
        raise InputError(
            expected="at least one setting to vary",
            got="an empty space",
            where="space",
            hint="space=mlp, or e.g. '+space.optim.lr.log=[1e-4,1e-2]'",
        )
    return space


def _settings(name: str, node: Mapping[str, Any]) -> Iterator[tuple[str, Distribution]]:
    kinds = {key: value for key, value in node.items() if key in KINDS and value is not None}
    if len(kinds) > 1:
        raise InputError(
            expected="one kind of values for a setting",
            got=" and ".join(sorted(kinds)),
            where=f"space.{name}",
            hint=f"set the other to null: space.{name}.{min(kinds)}=null",
        )
    for kind, value in kinds.items():
        yield name, _distribution(kind, value, f"space.{name}.{kind}")
    for key, value in node.items():
        path = f"{name}.{key}".lstrip(".")
        if key in KINDS or value is None:
            continue
        if not isinstance(value, Mapping):
            raise InputError(
                expected=" or ".join(KINDS), got=f"{key}: {value}", where=f"space.{path}", hint=did_you_mean(key, KINDS)
            )
        yield from _settings(path, value)


def _distribution(kind: str, value: object, where: str) -> Distribution:
    if kind == "choice":
        return _choice(value, where)
    whole = kind in ("int", "log_int")
    numbers = value if isinstance(value, list) else []
    right = all(isinstance(v, int if whole else (int, float)) and not isinstance(v, bool) for v in numbers)
    if not (right and len(numbers) == 2 and -math.inf < numbers[0] < numbers[1] < math.inf):
        raise InputError(
            expected="[low, high], two " + ("integers" if whole else "numbers") + ", the lower first",
            got=value,
            where=where,
            hint="a setting with one value belongs into `train`",
        )
    low, high = numbers
    if kind in ("log", "log_int") and low <= 0:
        raise InputError(
            expected="a positive lower end for a logarithmic scale",
            got=low,
            where=where,
            hint=f"take {'int' if whole else 'uniform'} for a range with 0",
        )
    if whole:
        return IntDistribution(low, high, log=kind == "log_int")
    return FloatDistribution(float(low), float(high), log=kind == "log")


def _choice(value: object, where: str) -> CategoricalDistribution:
    choices = value if isinstance(value, list) else []
    plain = all(choice is None or isinstance(choice, (bool, int, float, str)) for choice in choices)
    if not plain or len(set(map(repr, choices))) != len(choices) or len(choices) < 2:
        raise InputError(
            expected="a list of at least two different words, numbers, true, false or null",
            got=value,
            where=where,
            hint="a setting with one value belongs into `train`",
        )
    return CategoricalDistribution(choices)


def ends(distribution: Distribution) -> tuple[Value, ...]:
    """The values to try before a search: both ends of an interval, every choice."""
    if isinstance(distribution, CategoricalDistribution):
        return tuple(distribution.choices)
    return distribution.low, distribution.high


def corners(space: Space) -> Iterator[dict[str, Value]]:
    """Points that show whether the space can be trained in: one of the first ends, then each other end by itself."""
    first = {name: ends(distribution)[0] for name, distribution in space.items()}
    yield first
    for name, distribution in space.items():
        for value in ends(distribution)[1:]:
            yield first | {name: value}


def suggest(trial: Trial, space: Space) -> dict[str, Value]:
    """The values of a trial, as the study's sampler draws them."""
    values: dict[str, Value] = {}
    for name, distribution in space.items():
        if isinstance(distribution, CategoricalDistribution):
            values[name] = trial.suggest_categorical(name, distribution.choices)
        elif isinstance(distribution, IntDistribution):
            values[name] = trial.suggest_int(name, distribution.low, distribution.high, log=distribution.log)
        else:
            values[name] = trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)
    return values


def overrides_of(values: Mapping[str, Value]) -> list[str]:
    """The values as overrides of Hydra, exact to the last bit.

    >>> overrides_of({"optim.lr": 3e-4, "model": "mlp", "trainer.max_time": None, "data.root": "a b"})
    ['optim.lr=0.0003', 'model=mlp', 'trainer.max_time=null', "data.root='a b'"]
    >>> overrides_of({"a": "1", "b": "true"})
    ["a='1'", "b='true'"]
    """
    return [f"{name}={_written(value)}" for name, value in values.items()]


def _written(value: Value) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str) and (not re.fullmatch(r"[a-zA-Z_][\w./-]*", value) or value.lower() in WORDS):
        return "'" + re.sub(r"(\\*)('|\Z)", lambda found: found[1] * 2 + found[2].replace("'", r"\'"), value) + "'"
    return str(value)


def at_the_edge(space: Space, values: Mapping[str, Value]) -> list[str]:
    """The settings whose value lies at an end of its range: a wider one may hold better values.

    At an end means within `EDGE_SHARE` of an interval (on its own scale), or the first or last of integers or of a
    choice among numbers.

    >>> at_the_edge(read_space({"a": {"log": [1e-4, 1e-2]}, "b": {"uniform": [0, 1]}}), {"a": 9e-3, "b": 0.5})
    ['a']
    """
    return [name for name, distribution in space.items() if name in values and _edge(distribution, values[name])]


def _edge(distribution: Distribution, value: Value) -> bool:
    if isinstance(distribution, IntDistribution):
        return value in (distribution.low, distribution.high)
    if isinstance(distribution, CategoricalDistribution):
        numbers = all(isinstance(c, (int, float)) and not isinstance(c, bool) for c in distribution.choices)
        return numbers and value in (min(distribution.choices), max(distribution.choices))
    scale = math.log if distribution.log else float
    low, high = scale(distribution.low), scale(distribution.high)
    share = (scale(value) - low) / (high - low)
    return not EDGE_SHARE < share < 1 - EDGE_SHARE


def described(distribution: Distribution) -> dict[str, list[Value]]:
    """The distribution in the words of a configuration: what `read_space` made it from.

    >>> described(read_space({"a": {"log_int": [64, 1024]}})["a"])
    {'log_int': [64, 1024]}
    """
    if isinstance(distribution, CategoricalDistribution):
        return {"choice": list(distribution.choices)}
    if isinstance(distribution, IntDistribution):
        return {"log_int" if distribution.log else "int": [distribution.low, distribution.high]}
    return {"log" if distribution.log else "uniform": [distribution.low, distribution.high]}
