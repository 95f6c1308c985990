"""How far the Taylor model can be trusted."""

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from phoneme.errors import InputError
from phoneme.plots.figure import INK, SECOND, new_figure
from phoneme.plots.scale import set_message
from phoneme.wording import digits

NAMES = {"lambda_min": "λ_min", "lambda_max": "λ_max"}
VIEW = 4.0  # trusted radii to either side: both where the model holds and where it breaks can be seen


def plot_taylor(answer: dict[str, Any]) -> Figure:
    """The measured loss along the extreme eigenvectors, and Taylor's parabola through it.

    One panel a direction. Shaded is the radius within which the model is trusted. In the panel of lambda_min a square
    marks the loss after the escape step, if there was one. Raises InputError where the answer has no slices.
    """
    slices = answer["taylor"]
    if not slices:
        raise InputError(
            expected="an answer with losses along eigenvectors",
            got="none",
            where="taylor",
            hint="the list is empty where no slice was asked for",
        )
    figure = new_figure(9.0, 4.0)
    panels = figure.subplots(1, len(slices), squeeze=False)[0]
    for axes, cut in zip(panels, slices, strict=True):
        _panel(axes, cut, answer)
    set_message(figure, _message(slices))
    handles = {
        label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, frameon=False, fontsize=8.5)
    return figure


def _message(slices: list[dict[str, Any]]) -> str:
    parts = [
        f"{'at no radius tried' if cut['trusted_radius'] is None else 'up to ' + digits(cut['trusted_radius'])} "
        f"along {NAMES[cut['direction']]}"
        for cut in slices
    ]
    return f"How far Taylor's model predicts the loss: {', '.join(parts)}"


def _panel(axes: Axes, cut: dict[str, Any], answer: dict[str, Any]) -> None:
    here = answer["loss"]
    points = [
        (radius, loss - here)
        for radius, loss in zip(cut["radii"], cut["measured"], strict=True)
        if loss is not None and math.isfinite(loss)
    ]
    escape = answer["escape"] if cut["direction"] == "lambda_min" else None
    if escape and escape["radius"] is None:
        escape = None
    reach = _reach(cut, escape)
    inside = sorted(point for point in points if abs(point[0]) <= reach)
    step = np.linspace(-reach, reach, 201)
    parabola = cut["slope"] * step + 0.5 * cut["curvature"] * step**2
    if cut["trusted_radius"]:
        edge = cut["trusted_radius"]
        axes.axvspan(-edge, edge, facecolor="0.9", edgecolor="0.75", zorder=0, label="trusted radius")
    axes.plot(*zip(*inside, (0.0, 0.0), strict=True), "o", color=INK, markersize=4, label="measured loss")
    axes.plot(step, parabola, "--", color=SECOND, linewidth=1.6, label="Taylor's parabola")
    seen = [change for _, change in inside] + [0.0]
    if escape:
        axes.plot(
            [escape["sign"] * escape["radius"]],
            [-escape["measured"]],
            "s",
            color="black",
            markersize=8,
            markerfacecolor="none",
        )
        axes.lines[-1].set_label(f"after the escape step ({digits(escape['radius'])} long)")
        seen.append(-escape["measured"])
    _limit(axes, seen)
    axes.set_xlim(-reach, reach)
    left_out = len(points) - len(inside)
    axes.set_xlabel("signed step length" + (f" ({left_out} points further out not drawn)" if left_out else ""))
    axes.set_ylabel(f"change of the loss (here: {digits(here)})")
    axes.set_title(f"along {NAMES[cut['direction']]}, curvature {digits(cut['curvature'])}", loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)


def _reach(cut: dict[str, Any], escape: dict[str, Any] | None) -> float:
    """Half the width of a panel: the radii tried, but no more than VIEW trusted ones, and the escape step."""
    widest = max(abs(radius) for radius in cut["radii"])
    near = min(widest, VIEW * cut["trusted_radius"]) if cut["trusted_radius"] else widest
    return 1.05 * max(near, escape["radius"] if escape else 0.0)


def _limit(axes: Axes, seen: list[int | float]) -> None:
    """The loss axis spans what was measured: a parabola far off leaves the panel."""
    margin = 0.12 * (max(seen) - min(seen)) or 1.0
    axes.set_ylim(min(seen) - margin, max(seen) + margin)
