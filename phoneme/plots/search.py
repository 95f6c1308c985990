"""What a search found, one setting at a time."""

import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from phoneme.plots.figure import INK, SECOND, new_figure
from phoneme.wording import digits

PANELS_A_ROW = 3
STYLES = {  # told apart without colour
    "complete": {"marker": "o", "color": INK},
    "pruned": {"marker": "x", "color": SECOND},
    "failed": {"marker": "|", "color": "0.4"},
}


def plot_search(found: dict[str, Any]) -> Figure:
    """The axis plot of google-research/tuning_playbook: each setting against the metric, for the trials of search.json.

    Pruned trials stand at the best value they had, failed ones, which have none, on the lower edge; the best is ringed.
    A good search has its best points inside every panel, not at an edge, and enough of them near the best.
    """
    space, rows = found["space"], found["all"]
    lines = math.ceil(len(space) / PANELS_A_ROW)
    columns = math.ceil(len(space) / lines)
    figure = new_figure(3.2 * columns + 0.6, 2.7 * lines + 0.7)
    grid = figure.subplots(lines, columns, sharey=True, squeeze=False)
    for axes in grid.flat[len(space) :]:
        axes.remove()
    for axes, (name, kind) in zip(grid.flat, space.items(), strict=False):
        _panel(axes, name, kind, rows, found["best"])
    for axes in grid[:, 0]:
        axes.set_ylabel(f"best {found['metric']}")
    states = [state for state in STYLES if any(row["state"] == state for row in rows)]
    marks = [Line2D([], [], linestyle="none", label=state, **STYLES[state]) for state in states]
    if found["best"]:
        marks.append(Line2D([], [], label="best", **_ring()))
    figure.legend(handles=marks, loc="outside lower center", ncols=len(marks), frameon=False)
    figure.suptitle(_message(found), x=0.01, ha="left", fontsize=11)
    return figure


def _panel(axes: Axes, name: str, kind: dict[str, list], rows: list[dict], best: dict | None) -> None:
    ((word, values),) = kind.items()
    for state, style in STYLES.items():
        points = [row for row in rows if row["state"] == state and name in row["parameters"]]
        x = [_place(row["parameters"][name], word, values) for row in points]
        if state == "failed":
            axes.plot(x, [0.02] * len(x), linestyle="none", transform=axes.get_xaxis_transform(), **style)
        else:
            axes.plot(x, [row["value"] for row in points], linestyle="none", markersize=5, **style)
    if best:
        axes.plot([_place(best["parameters"][name], word, values)], [best["value"]], **_ring())
    if word == "choice":
        axes.set_xticks(range(len(values)), ["null" if v is None else str(v) for v in values])
        axes.set_xlim(-0.5, len(values) - 0.5)
    elif word in ("log", "log_int"):
        axes.set_xscale("log")
        axes.set_xlim(values[0] / 1.1, values[1] * 1.1)
        if values[1] / values[0] < 100:
            axes.set_xticks(values, [digits(v) for v in values])
            axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        margin = 0.04 * (values[1] - values[0])
        axes.set_xlim(values[0] - margin, values[1] + margin)
        axes.xaxis.get_major_locator().set_params(integer=word == "int")
    axes.set_xlabel(name)
    axes.spines[["top", "right"]].set_visible(False)


def _place(value: Any, word: str, values: list) -> int | float:
    return values.index(value) if word == "choice" else value


def _ring() -> dict[str, Any]:
    return {
        "marker": "o",
        "markersize": 12,
        "markerfacecolor": "none",
        "markeredgecolor": SECOND,
        "linestyle": "none",
        "markeredgewidth": 1.5,
    }


def _message(found: dict[str, Any]) -> str:
    states = ", ".join(f"{number} {state}" for state, number in found["states"].items())
    best = found["best"]
    return states + (f"; best {found['metric']} {best['value']:.4f}, trial {best['number']}" if best else "")
