"""How gradients and updates went over a training."""

import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from phoneme.plots.figure import INK, SECOND, new_figure

USUAL_RATIO = 1e-3  # of an update to the weights: Karpathy, CS231n notes, "Ratio of weights:updates"


def plot_gradients(history: list[dict[str, Any]]) -> Figure:
    """Learning rate, gradient norm, update-to-weight ratio, and the angle between successive updates, by update.

    `history` has a dictionary a logging step, with the names of `GradientLogger`'s metrics, and `step` and
    `learning_rate`. Layers are grey lines, the darker the nearer to the output.
    """
    figure = new_figure(8.0, 7.2)
    panels = figure.subplots(2, 2, sharex=True)
    rate, norm, ratio, angle = panels.flat
    steps = [row["step"] for row in history]
    rate.plot(steps, [row["learning_rate"] for row in history], color=INK)
    rate.set_ylabel("learning rate")
    rate.set_ylim(0, None)
    _by_layer(norm, history, "gradients/norm", "gradient norm (L2)")
    _by_layer(ratio, history, "updates/ratio", "update / weights (L2 norms)")
    ratio.axhline(USUAL_RATIO, color=SECOND, linewidth=0.8, linestyle="--", label="usual: 0.001")
    ratio.legend(frameon=False, fontsize=8)
    known = [(row["step"], row["updates/cosine"]) for row in history if "updates/cosine" in row]
    angle.plot(*zip(*known, strict=True) if known else ([], []), color=INK)
    angle.axhline(0, color="0.6", linewidth=0.8)
    angle.set_ylim(-1.05, 1.05)
    angle.set_ylabel("cosine between successive updates\n(of noise with momentum β: about β)")
    for axes in panels.flat:
        axes.spines[["top", "right"]].set_visible(False)
    for axes in (ratio, angle):
        axes.set_xlabel("update")
    figure.suptitle(_message(history), x=0.01, ha="left", fontsize=11)
    return figure


def _by_layer(axes: Axes, history: list[dict[str, Any]], group: str, label: str) -> None:
    names = [name for name in history[0] if name.startswith(f"{group}/") and not name.endswith("/total")]
    for place, name in enumerate(names):
        grey = 0.85 - 0.5 * place / max(len(names) - 1, 1)
        _line(
            axes,
            history,
            name,
            color=str(grey),
            linewidth=0.8,
            label="layers, the last ones darkest" if place == 0 else None,
        )
    _line(axes, history, f"{group}/total", color=INK, linewidth=1.6, label="all")
    axes.set_yscale("log")
    axes.set_ylabel(label)
    axes.legend(frameon=False, fontsize=8)


def _line(axes: Axes, history: list[dict[str, Any]], name: str, **style: Any) -> None:
    """Zeros and what is not finite are left out: the axis is logarithmic."""
    points = [(row["step"], row[name]) for row in history if name in row and 0 < row[name] < math.inf]
    axes.plot(*zip(*points, strict=True) if points else ([], []), **style)


def _message(history: list[dict[str, Any]]) -> str:
    first, last = (row["gradients/norm/total"] for row in (history[0], history[-1]))
    if not (first > 0 and math.isfinite(last)):
        return f"Gradient norm {first:.3g}, at the end {last:.3g}"
    if last < first / 2:
        return f"The gradient norm fell from {first:.3g} to {last:.3g}"
    if last > first * 2:
        return f"The gradient norm rose from {first:.3g} to {last:.3g}"
    return f"The gradient norm stayed near {last:.3g}"
