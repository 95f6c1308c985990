"""Both ends of the spectrum, and what they decide."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from phoneme.plots.figure import INK, SECOND, new_figure
from phoneme.plots.scale import set_message, shade_zero, symmetric_log, zero_tolerance
from phoneme.wording import digits, with_bound

RESOLVED = 1e-14  # of the largest: nearer to zero nothing is told from it, even in float64


def plot_extremes(answer: dict[str, Any]) -> Figure:
    """The largest eigenvalues and the smallest, on an axis where all magnitudes can be read.

    Two widths for either end: thick is the error bound (an eigenvalue lies this near), thin the a-posteriori interval
    (the extreme eigenvalue itself is in it, but for the stated probability of failure).
    """
    low, high, leading = answer["lambda_min"], answer["lambda_max"], answer["leading_eigenvalues"]
    rows = [("λ_max", high), *((f"λ_{i}", {"value": v}) for i, v in enumerate(leading[1:], start=2)), ("λ_min", low)]
    figure = new_figure(9.0, 1.7 + 0.3 * len(rows))
    axes = figure.add_subplot()
    shade_zero(axes, zero_tolerance(answer))
    axes.axvline(0.0, color="0.3", linewidth=0.8)
    for height, (name, eigenvalue) in enumerate(rows):
        _row(axes, height, eigenvalue, SECOND if name == "λ_min" else INK)
    drawn = [v for _, e in rows for v in (e["value"], e.get("lower"), e.get("upper")) if v is not None]
    tolerance = zero_tolerance(answer)
    symmetric_log(axes, [*drawn, -tolerance, tolerance], _linear(answer))
    axes.set_yticks(range(len(rows)), [f"{name} = {_number(e)}" for name, e in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("eigenvalue λ of the Hessian (linear next to 0, logarithmic outside)")
    axes.spines[["top", "right"]].set_visible(False)
    set_message(figure, verdict_message(answer))
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8.5)
    return figure


def verdict_message(answer: dict[str, Any]) -> str:
    """The verdict and the number it rests on, in a sentence."""
    low, high = (with_bound(answer[name]) for name in ("lambda_min", "lambda_max"))
    lowest = answer["lambda_min"]["lower"]
    rises = (
        "the loss bends up in all directions"
        if lowest > 0
        else f"no direction bends down by more than {digits(-lowest)}"
    )
    return {
        "not_critical": f"Not a critical point: the gradient's norm is {digits(answer['gradient_norm'])}; "
        f"λ_min = {low}, λ_max = {high}",
        "saddle": f"Saddle: the loss bends down along at least one direction, λ_min = {low}",
        "local_minimum": f"Local minimum: {rises}, λ_min = {low}",
        "local_maximum": f"Local maximum: the loss bends down in all directions, λ_max = {high}",
        "degenerate": f"Degenerate: flat directions remain, λ_min = {low}, λ_max = {high}",
        "undecided": f"Undecided: a sign cannot be told, λ_min = {low}, λ_max = {high}",
    }[answer["verdict"]]


def _number(eigenvalue: dict[str, Any]) -> str:
    return with_bound(eigenvalue) if "bound" in eigenvalue else digits(eigenvalue["value"])


def _linear(answer: dict[str, Any]) -> float:
    """Where the axis turns linear: below both ends, or below what counts as zero for one that is not told from it."""
    ends = answer["lambda_min"], answer["lambda_max"]
    tolerance = zero_tolerance(answer)
    sizes = [abs(end["value"]) if abs(end["value"]) > end["bound"] else max(end["bound"], tolerance) for end in ends]
    largest = max(sizes) or 1.0
    return 0.3 * max(min(sizes), RESOLVED * largest)


def _row(axes: Axes, height: int, eigenvalue: dict[str, Any], colour: str) -> None:
    """A point; with its interval and bound where they are known. The first row's are those of the legend."""
    value, first = eigenvalue["value"], height == 0
    if eigenvalue.get("lower") is not None:
        failure = eigenvalue["failure"]
        sure = "" if not failure else f", failing with probability {digits(failure)}"
        axes.errorbar(
            [value],
            [height],
            xerr=[[max(value - eigenvalue["lower"], 0.0)], [max(eigenvalue["upper"] - value, 0.0)]],
            color=colour,
            capsize=5,
            linewidth=1,
            label=f"interval for the extreme itself{sure}" if first else None,
        )
    if eigenvalue.get("bound"):
        ends = [value - eigenvalue["bound"], value + eigenvalue["bound"]]
        label = "error bound: an eigenvalue is this near" if first else None
        axes.plot(ends, [height, height], color=colour, linewidth=6, alpha=0.35, solid_capstyle="butt", label=label)
    hollow = "white" if colour == SECOND else colour
    axes.plot([value], [height], "D" if colour == SECOND else "o", color=colour, markerfacecolor=hollow, zorder=5)
