"""How many directions bend up, lie flat, and bend down."""

from typing import Any

from matplotlib.figure import Figure

from phoneme.errors import InputError
from phoneme.plots.figure import INK, new_figure
from phoneme.plots.scale import set_message
from phoneme.wording import digits, percent

SIGNS = (("positive", "bends up (positive)"), ("zero", "flat (zero)"), ("negative", "bends down (negative)"))


def plot_minimum_ratio(answer: dict[str, Any]) -> Figure:
    """Shares of positive, zero and negative eigenvalues in percent: intervals from low to high, or exact marks.

    Raises InputError where the answer has no minimum ratio.
    """
    ratio = answer["minimum_ratio"]
    if ratio is None:
        raise InputError(
            expected="an answer with a minimum ratio",
            got="none",
            where="minimum_ratio",
            hint="it is left out where the spectrum was not asked for",
        )
    figure = new_figure(9.0, 2.5)
    axes = figure.add_subplot()
    exactly = " (exact)" if ratio["exact"] else ""
    for height, (name, _) in enumerate(SIGNS):
        low, high = (100 * ratio[name][end] for end in ("low", "high"))
        if ratio["exact"]:
            axes.plot([low], [height], "o", color=INK, clip_on=False)
        else:
            axes.plot([low, high], [height] * 2, color=INK, alpha=0.35, linewidth=12, solid_capstyle="butt")
            axes.plot([low, high], [height] * 2, "|", color=INK, markersize=14, clip_on=False)
        axes.text(1.02, height, percent(ratio[name]) + exactly, va="center", transform=axes.get_yaxis_transform())
    axes.set_yticks(range(len(SIGNS)), [label for _, label in SIGNS])
    axes.set_ylim(len(SIGNS) - 0.5, -0.5)
    axes.set_xlim(0, 100)
    axes.set_xlabel(f"share of the Hessian's eigenvalues (%); |λ| ≤ {digits(ratio['tolerance'])} counts as zero")
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    set_message(figure, f"Minimum ratio: {percent(ratio['positive'])} of the eigenvalues are positive{exactly}")
    return figure
