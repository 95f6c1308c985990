"""How loss and accuracy went over the epochs."""

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from phoneme.plots.figure import INK, SECOND, new_figure


def plot_learning_curves(history: list[dict[str, int | float]]) -> Figure:
    """Training and validation loss (left) and accuracy (right) by epoch."""
    figure = new_figure(9.0, 3.6)
    for axes, name, unit in zip(
        figure.subplots(1, 2), ("loss", "accuracy"), ("nats a frame", "share of frames"), strict=True
    ):
        for side, colour, style, label in (
            ("train", SECOND, "--", "training (as trained: dropout on)"),
            ("val", INK, "-", "validation"),
        ):
            points = [(row["epoch"] + 1, row[f"{side}/{name}"]) for row in history if f"{side}/{name}" in row]
            if points:
                axes.plot(*zip(*points, strict=True), style, color=colour, label=label, marker=".", markersize=4)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("epoch")
        axes.set_ylabel(f"{name} ({unit})")
        axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    return figure
