"""Where the eigenvalues of the Hessian are."""

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from phoneme.plots.figure import INK, SECOND, new_figure
from phoneme.plots.scale import set_message, shade_zero, zero_tolerance
from phoneme.wording import digits, interval, with_bound

SHARE_OF_ONE = 0.1  # the axis begins at a tenth of one eigenvalue's peak: below it there is nothing to see
HEIGHT = 0.1  # of the extremes, over the panel's
DECADES = 12  # at most, on the vertical axis


def plot_density(answer: dict[str, Any]) -> Figure:
    """The spectral density with its standard error, the region that counts as zero, and both ends of the spectrum.

    `answer` is critical_point.json. The density's integral is 1, and each eigenvalue is a bell of width sigma. Where
    `spectral_density` is None, only the ends are drawn.
    """
    density = answer["spectral_density"]
    figure = new_figure(9.0, 4.4 if density else 2.3)
    axes = figure.add_subplot()
    shade_zero(axes, zero_tolerance(answer))
    reach = _extremes(axes, answer)
    if density:
        _curve(axes, density, answer["cost"]["parameters"])
        reach += [density["grid"][0], density["grid"][-1]]
        axes.set_ylabel("share of eigenvalues\nper unit of λ")
    else:
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_ylim(0, 0.2)
    low, high = min(*reach, 0.0), max(*reach, 0.0)
    margin = 0.03 * (high - low or 1.0)
    axes.set_xlim(low - margin, high + margin)
    axes.set_xlabel("eigenvalue λ of the Hessian (curvature: loss per squared distance)")
    axes.spines[["top", "right"]].set_visible(False)
    set_message(figure, _message(answer))
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8.5)
    return figure


def _message(answer: dict[str, Any]) -> str:
    low, high = (digits(answer[name]["value"]) for name in ("lambda_min", "lambda_max"))
    zero = (answer["minimum_ratio"] or {}).get("zero", {"low": 0.0})["low"]
    most = f"; at least {math.floor(100 * zero)} % of them count as zero" if zero >= 0.5 else ""
    return f"Eigenvalues from λ_min = {low} to λ_max = {high}{most}"


def _curve(axes: Axes, density: dict[str, Any], parameters: int) -> None:
    """Density and band on a logarithmic axis whose foot is below a single eigenvalue's peak."""
    grid, mean, error = (np.array(density[name], float) for name in ("grid", "density", "standard_error"))
    top = (mean + error).max()
    peak = 1 / (density["sigma"] * math.sqrt(2 * math.pi)) if density["sigma"] else top
    foot = min(max(SHARE_OF_ONE * peak / parameters, top * 10.0**-DECADES), 0.1 * top)
    if density["probes"]:
        label = f"spectral density ({density['probes']} random starts of {density['steps']} steps)"
        low, high = np.maximum(mean - error, foot), np.maximum(mean + error, foot)
        axes.fill_between(grid, low, high, color=INK, alpha=0.25, linewidth=0, label="± one standard error")
    else:
        label = f"spectral density (of all {density['steps']:,} eigenvalues)"
    axes.plot(grid, np.maximum(mean, foot), color=INK, linewidth=1.2, label=label)
    axes.set_yscale("log")
    axes.set_ylim(foot, 3 * top)


def _extremes(axes: Axes, answer: dict[str, Any]) -> list[int | float]:
    """Both ends as points near the foot, with whiskers over the interval; all their numbers."""
    numbers = []
    for name, sign, marker, colour in (("lambda_min", "λ_min", "D", SECOND), ("lambda_max", "λ_max", "o", INK)):
        extreme = answer[name]
        value, low, high = (extreme[key] for key in ("value", "lower", "upper"))
        axes.errorbar(
            [value],
            [HEIGHT],
            xerr=[[max(value - low, 0.0)], [max(high - value, 0.0)]],
            fmt=marker,
            color=colour,
            markerfacecolor="white" if sign == "λ_min" else colour,
            markersize=6,
            capsize=4,
            clip_on=False,
            zorder=5,
            transform=axes.get_xaxis_transform(),
            label=f"{sign} = {with_bound(extreme)}, in {interval(low, high)}",
        )
        numbers += [value, low, high]
    return numbers
