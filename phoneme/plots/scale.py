"""How eigenvalues of all magnitudes are laid on one axis."""

import math
import re
import textwrap
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from phoneme.wording import digits

TITLE_WIDTH = 96  # characters of size 11 in 9 inches
TICKS_A_SIDE = 4  # decades that are labelled right and left of zero


def zero_tolerance(answer: dict[str, Any]) -> int | float:
    """Up to which |eigenvalue| the answer counts as zero: the minimum ratio's tolerance, else the verdict's."""
    ratio = answer["minimum_ratio"]
    return ratio["tolerance"] if ratio else answer["flat_tolerance"]


def set_message(figure: Figure, message: str) -> None:
    """What the picture says, over it, in lines that fit; a number is not torn from its bound."""
    held = re.sub(r" ([=±]) ", "\u00a0\\1\u00a0", message)
    lines = [line.replace("\u00a0", " ") for line in textwrap.wrap(held, TITLE_WIDTH)]
    figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=11)


def shade_zero(axes: Axes, tolerance: int | float) -> None:
    """The region that counts as zero, with an edge, so that a narrow one shows too; none for a tolerance of 0."""
    if not tolerance:
        return
    label = f"counts as zero (|λ| ≤ {digits(tolerance)})"
    axes.axvspan(-tolerance, tolerance, facecolor="0.88", edgecolor="0.75", linewidth=0.8, zorder=0, label=label)


def symmetric_log(axes: Axes, values: list[int | float], linear: int | float) -> None:
    """An x axis with zero and both signs: linear within +-`linear`, logarithmic outside, a few decades labelled."""
    reach = max([abs(value) for value in values] + [linear])
    axes.set_xscale("symlog", linthresh=linear, linscale=1.0)
    first, last = math.ceil(math.log10(linear) - 1e-9), math.floor(math.log10(reach) + 0.3)
    stride = max(1, math.ceil((last - first + 1) / TICKS_A_SIDE))
    decades = [10.0**power for power in range(first, max(last, first) + 1, stride)]
    axes.xaxis.set_major_locator(FixedLocator([*(-d for d in reversed(decades)), 0.0, *decades]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(_decade))
    low, high = min([*values, 0.0]), max([*values, 0.0])
    axes.set_xlim(min(1.6 * low, -1.5 * linear), max(1.6 * high, 1.5 * linear))


def _decade(value: float, _: int | None = None) -> str:
    """A tick's label: 0, 1, 10 and 0.1 as they are, others as powers of ten."""
    if value == 0:
        return "0"
    power = round(math.log10(abs(value)))
    sign = "−" if value < 0 else ""
    return sign + (f"{10.0**power:g}" if -2 <= power <= 3 else f"$10^{{{power}}}$")
