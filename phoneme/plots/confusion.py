"""Which phone is taken for which."""

import numpy as np
from matplotlib.figure import Figure

from phoneme.plots.figure import new_figure


def plot_confusion(confusion: np.ndarray, phones: tuple[str, ...], title: str) -> Figure:
    """The row-normalised confusion matrix: each row tells how the frames of one true phone were labelled, in percent.

    `confusion` is `[classes, classes]` counts, rows = truth. The colour is the square root of the share, so that rare
    confusions show; phones without a frame have an empty row.
    """
    counts = confusion.sum(axis=1)
    share = 100 * confusion / np.maximum(counts, 1)[:, None]
    figure = new_figure(9.5, 8.5)
    axes = figure.add_subplot()
    image = axes.imshow(np.sqrt(share), cmap="Greys", vmin=0, vmax=10)
    ticks = range(len(phones))
    axes.set_xticks(ticks, phones, rotation=90, fontsize=7)
    axes.set_yticks(ticks, [f"{p} ({n:,})" for p, n in zip(phones, counts.astype(int), strict=True)], fontsize=7)
    axes.set_xlabel("predicted phone")
    axes.set_ylabel("true phone (frames)")
    axes.set_title(title, loc="left", fontsize=11)
    for i in ticks:
        if share[i, i] >= 0.5:
            axes.text(
                i,
                i,
                f"{share[i, i]:.0f}",
                ha="center",
                va="center",
                fontsize=5.5,
                color="white" if share[i, i] > 30 else "black",
            )
    bar = figure.colorbar(image, ax=axes, shrink=0.6, ticks=np.sqrt([0, 1, 5, 10, 25, 50, 100]))
    bar.ax.set_yticklabels(["0", "1", "5", "10", "25", "50", "100"])
    bar.set_label("frames of the true phone (%)")
    return figure
