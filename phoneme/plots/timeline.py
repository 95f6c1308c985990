"""How the error surface changed over a training."""

from typing import Any

from matplotlib.figure import Figure

from phoneme.curvature.critical_point import SMALL_GRADIENT
from phoneme.plots.figure import INK, SECOND, new_figure

MARKERS = {  # told apart without colour
    "not_critical": "o",
    "saddle": "X",
    "local_minimum": "v",
    "local_maximum": "^",
    "degenerate": "_",
    "undecided": "s",
}


def plot_timeline(timeline: list[dict[str, Any]]) -> Figure:
    """Both ends of the spectrum (above) and the relative gradient norm (below), by update; a mark a verdict.

    `timeline` has a dictionary for each time the monitor looked: step, verdict, lambda_min, lambda_max and, unless the
    loss was 0, gradient_norm_relative.
    """
    figure = new_figure(7.0, 5.6)
    above, below = figure.subplots(2, 1, sharex=True)
    steps = [row["step"] for row in timeline]
    for name, colour, label in (("lambda_max", INK, "λ_max"), ("lambda_min", SECOND, "λ_min")):
        above.plot(steps, [row[name] for row in timeline], ".-", color=colour, label=label)
    above.axhline(0, color="0.6", linewidth=0.8)
    smallest = min(
        (abs(row[name]) for row in timeline for name in ("lambda_min", "lambda_max") if row[name]), default=1
    )
    above.set_yscale("symlog", linthresh=smallest)
    above.margins(y=0.08)
    above.set_ylabel("curvature of the loss")
    above.legend(frameon=False)
    known = [row for row in timeline if row.get("gradient_norm_relative")]
    below.plot([row["step"] for row in known], [row["gradient_norm_relative"] for row in known], color="0.6")
    for verdict, marker in MARKERS.items():
        rows = [row for row in known if row["verdict"] == verdict]
        if rows:
            x, y = [row["step"] for row in rows], [row["gradient_norm_relative"] for row in rows]
            below.plot(x, y, marker, color=INK, linestyle="none", label=verdict.replace("_", " "))
    below.axhline(SMALL_GRADIENT, color="0.6", linewidth=0.8, linestyle="--", label="counts as zero below")
    below.set_yscale("log")
    below.set_ylim(min([SMALL_GRADIENT / 2, *(row["gradient_norm_relative"] for row in known)]), None)
    below.legend(frameon=False)
    below.set_ylabel("relative gradient norm")
    below.set_xlabel("update")
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    above.set_title(_message(timeline), loc="left", fontsize=11)
    return figure


def _message(timeline: list[dict[str, Any]]) -> str:
    critical = sum(row["verdict"] != "not_critical" for row in timeline)
    looks = f"{len(timeline)} look" + ("s" if len(timeline) != 1 else "")
    return f"{looks} at the surface in training: {critical or 'none'} at a critical point"
