"""Figures as data: what is drawn, not how. Everything is a primitive, so that lab.json holds it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from phoneme.files import primitives

Numbers = Sequence[float | int | None]


class Mark:
    """Something in a panel; in JSON its `kind` is the name of its class."""

    def to_dict(self) -> dict[str, Any]:
        return primitives({"kind": type(self).__name__.lower(), **vars(self)})


@dataclass(frozen=True)
class Line(Mark):
    """A curve: `y` has a value an x, or one such list a seed, drawn as mean and a band from least to greatest."""

    label: str
    x: Numbers
    y: Numbers | Sequence[Numbers]


@dataclass(frozen=True)
class Bars(Mark):
    """A bar a label, as long as the mean of its values, one a seed, which are dots. `label` names a group of bars."""

    labels: Sequence[str]
    values: Sequence[Numbers]
    label: str = ""


@dataclass(frozen=True)
class Points(Mark):
    """Single points, one a run."""

    label: str
    x: Numbers
    y: Numbers


@dataclass(frozen=True)
class Surface(Mark):
    """A function of two variables on a grid, as filled contours: z[row of y][column of x]; `label` names z."""

    x: Numbers
    y: Numbers
    z: Sequence[Numbers]
    label: str = ""
    log: bool = False


@dataclass(frozen=True)
class Path(Mark):
    """A trajectory in the plane of a surface, from its mark to its end."""

    label: str
    x: Numbers
    y: Numbers


@dataclass(frozen=True)
class Level(Mark):
    """A horizontal line to compare with."""

    label: str
    value: float | int


@dataclass(frozen=True)
class Panel:
    """One pair of axes: `x` and `y` are their labels, with units."""

    x: str
    y: str
    marks: Sequence[Mark]
    title: str = ""
    x_log: bool = False
    y_log: bool = False

    def to_dict(self) -> dict[str, Any]:
        return primitives(vars(self))


@dataclass(frozen=True)
class Picture:
    """A figure with one message, which is said above it in one sentence."""

    name: str
    message: str
    panels: Sequence[Panel]

    def to_dict(self) -> dict[str, Any]:
        return primitives(vars(self))
