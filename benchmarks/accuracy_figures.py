"""The rows of `accuracy.py` as pictures: who reaches what, and what each change to `boss` wins or loses."""

from statistics import mean
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from phoneme.plots.figure import INK, SECOND, new_figure

if TYPE_CHECKING:
    from accuracy_table import Change

COLOURS = {"ours": INK, "peer": SECOND}
LINE_HEIGHT_IN = 0.27


def plot_rows(groups: dict[str, list[dict]]) -> Figure:
    """Each row's accuracy on the held-out speakers (filled) and on its training frames (open)."""
    figure = new_figure(7.2, 1.1 + LINE_HEIGHT_IN * len(groups))
    axes = figure.subplots()
    for place, seeds in enumerate(groups.values()):
        colour = COLOURS[seeds[0]["side"]]
        held_out = mean(row["val_accuracy"] for row in seeds)
        trained = [row["train_accuracy"] for row in seeds if "train_accuracy" in row]
        if trained:
            axes.plot([held_out, mean(trained)], [place, place], color=colour, linewidth=1)
            axes.plot([mean(trained)], [place], "o", color=colour, markerfacecolor="white")
        axes.plot([row["val_accuracy"] for row in seeds], [place] * len(seeds), "o", color=colour)
    axes.set_yticks(range(len(groups)), groups)
    for label, seeds in zip(axes.get_yticklabels(), groups.values(), strict=True):
        label.set_color(COLOURS[seeds[0]["side"]])
    _finish(axes, "accuracy over frames: held-out speakers (filled), training speakers (open)")
    figure.suptitle("Recipes and peers, up to an hour of one core for each network", x=0.01, ha="left", fontsize=11)
    return figure


def plot_changes(found: list["Change"], epochs: int) -> Figure:
    """What each change wins or loses in points, with its interval over utterances, the worst first."""
    changed = sorted((change for change in found if change.gain), key=lambda change: -change.gain.gain)
    figure = new_figure(9.0, 1.1 + LINE_HEIGHT_IN * len(changed))
    axes = figure.subplots()
    axes.axvline(0, color="0.5", linewidth=1)
    for place, change in enumerate(changed):
        low, high = -100 * change.gain.high, -100 * change.gain.low
        axes.plot([low, high], [place, place], color=INK, linewidth=1.5, solid_capstyle="butt")
        axes.plot([-100 * change.gain.gain], [place], "o", color=INK, markersize=5)
    axes.set_yticks(range(len(changed)), [change.settings for change in changed], fontsize=8, family="monospace")
    _finish(axes, "points won (95 % interval over utterances)")
    figure.suptitle(
        f"What a change to boss wins in accuracy, trainings of {epochs} epochs", x=0.01, ha="left", fontsize=11
    )
    return figure


def _finish(axes: Axes, label: str) -> None:
    axes.invert_yaxis()
    axes.set_xlabel(label)
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
