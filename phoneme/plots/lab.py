"""Pictures of the lab, from the data in lab.json. Dark to light and by line style: they can be read in grey."""

import textwrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from phoneme.plots.figure import INK, SECOND, new_figure
from phoneme.wording import digits

STYLES = (
    (INK, "-", "o"),
    (SECOND, "--", "s"),
    ("#5a9bd4", "-.", "^"),
    ("0.55", ":", "D"),
    ("#8c2d62", (0, (5, 1)), "v"),
)
STYLES += (("#b8a038", (0, (3, 1, 1, 1)), "X"), ("0.25", (0, (1, 1)), "P"), ("#2e7d5b", (0, (7, 2)), "*"))
PANEL_IN, HEIGHT_IN, ALONE_IN = 4.6, 4.0, 7.0  # inches
LETTERS_AN_INCH = 12  # of a title of size 11
CONTOURS = 14
LEGEND_ROOM = 0.18  # of the height
FEW_TICKS, TICK_DIGITS = 7, 4  # 1,024 is no 1,020
HATCHES = ("", "//", "..")  # of groups of bars, for grey
DECADES = 100.0  # ends of an axis further apart need no ticks between the powers of ten
SMALL_AND_LARGE = (-3, 5)  # powers of ten from which on one is taken out of an axis's labels


def plot_picture(picture: dict[str, Any]) -> Figure:
    """A picture of lab.json: its panels side by side, its message above."""
    panels = picture["panels"]
    width = ALONE_IN if len(panels) == 1 else PANEL_IN * len(panels)
    figure = new_figure(width, HEIGHT_IN)
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _panel(figure, axes, panel)
    message = "\n".join(textwrap.wrap(picture["message"], int(width * LETTERS_AN_INCH)))
    figure.suptitle(message, x=0.01, ha="left", fontsize=11)
    return figure


def _panel(figure: Figure, axes: Axes, panel: dict[str, Any]) -> None:
    axes.set_xlabel(panel["x"])
    axes.set_ylabel(panel["y"])
    if panel["title"]:
        axes.set_title(panel["title"], loc="left", fontsize=10)
    surfaces = [mark for mark in panel["marks"] if mark["kind"] == "surface"]
    others = [mark for mark in panel["marks"] if mark["kind"] != "surface"]
    for mark in surfaces:
        _surface(figure, axes, mark)
    if panel["x_log"]:
        axes.set_xscale("log")
        _tick_few(axes, others)
    if panel["y_log"]:
        axes.set_yscale("log")
    for name in ("x", "y"):
        if not panel[f"{name}_log"]:
            axes.ticklabel_format(axis=name, scilimits=SMALL_AND_LARGE, useMathText=True)
    groups = [mark for mark in others if mark["kind"] == "bars"]
    for place, mark in enumerate(others):
        style = STYLES[place % len(STYLES)]
        if mark["kind"] == "bars":
            _bars(axes, mark, style, groups.index(mark), len(groups))
        else:
            DRAWN[mark["kind"]](axes, mark, style)
    for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        if panel[f"{name}_log"] and not isinstance(axis.get_major_locator(), FixedLocator):
            _plain_powers(axis)
    axes.spines[["top", "right"]].set_visible(False)
    if sum(bool(mark["label"]) for mark in others) > 0 and any(axes.get_legend_handles_labels()[1]):
        legend = axes.legend(frameon=bool(surfaces), fontsize=8.5, loc="best")
        legend.set_zorder(10)
        if groups:  # room above the bars
            low, high = axes.get_ylim()
            axes.set_ylim(low, high + LEGEND_ROOM * (high - low))


def _tick_few(axes: Axes, marks: list[dict[str, Any]]) -> None:
    """Ticks at the values themselves where they are few: between powers of ten labels would overlap."""
    values = sorted({x for mark in marks if "x" in mark for x in mark["x"] if x is not None})
    if 1 < len(values) <= FEW_TICKS:
        axes.set_xticks(values, [digits(value, TICK_DIGITS) for value in values])
        axes.minorticks_off()


def _plain_powers(axis: Axis) -> None:
    """Numbers as people write them on a logarithmic axis, also between the powers of ten where these are rare."""
    write = FuncFormatter(lambda value, _: digits(value))
    axis.set_major_formatter(write)
    low, high = axis.get_view_interval()
    axis.set_minor_locator(LogLocator(subs=(2.0, 5.0)) if high < DECADES * low else NullLocator())
    axis.set_minor_formatter(write)


def _numbers(values: Any) -> np.ndarray:
    """None, which stands for what is not finite, as NaN: it leaves a gap."""
    return np.array(values, dtype=float)


def _line(axes: Axes, mark: dict[str, Any], style: tuple) -> None:
    colour, dashes, marker = style
    x, y = _numbers(mark["x"]), np.atleast_2d(_numbers(mark["y"]))
    few = len(x) <= 12
    axes.plot(
        x,
        _over_seeds(np.mean, y),
        color=colour,
        linestyle=dashes,
        marker=marker if few else None,
        markersize=4.5,
        label=mark["label"] or None,
    )
    if len(y) > 1:
        low, high = _over_seeds(np.min, y), _over_seeds(np.max, y)
        axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)


def _over_seeds(of: Any, rows: np.ndarray) -> np.ndarray:
    """A statistic of the finite values of each column; NaN where there is none."""
    found = np.full(rows.shape[1], np.nan)
    for place, column in enumerate(rows.T):
        finite = column[np.isfinite(column)]
        if len(finite):
            found[place] = of(finite)
    return found


def _bars(axes: Axes, mark: dict[str, Any], style: tuple, group: int, groups: int) -> None:
    colour, width = style[0], 0.8 / groups
    values = [_numbers(v) for v in mark["values"]]
    places = np.arange(len(values)) + (group - (groups - 1) / 2) * width
    means = [np.mean(v[np.isfinite(v)]) if np.isfinite(v).any() else 0.0 for v in values]
    axes.bar(
        places,
        means,
        width * 0.9,
        color=colour,
        alpha=0.45,
        edgecolor=colour,
        hatch=HATCHES[group % 3],
        label=mark["label"] or None,
    )
    for place, seeds in zip(places, values, strict=True):
        if len(seeds) > 1:
            spread = np.linspace(-0.2, 0.2, len(seeds)) * width
            axes.plot(place + spread, seeds, "o", color="0.1", markersize=3, zorder=4)
    longest = max((len(part) for label in mark["labels"] for part in label.split("\n")), default=0)
    slanted = longest * len(values) > 11 * axes.figure.get_figwidth()
    axes.set_xticks(
        np.arange(len(values)),
        mark["labels"],
        fontsize=8.5,
        **({"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if slanted else {}),
    )
    axes.axhline(0, color="0.6", linewidth=0.8)


def _points(axes: Axes, mark: dict[str, Any], style: tuple) -> None:
    colour, _, marker = style
    axes.plot(
        _numbers(mark["x"]),
        _numbers(mark["y"]),
        marker,
        color=colour,
        alpha=0.75,
        markersize=5,
        linestyle="none",
        label=mark["label"] or None,
    )


def _surface(figure: Figure, axes: Axes, mark: dict[str, Any]) -> None:
    x, y, z = (_numbers(mark[name]) for name in "xyz")
    low, high = np.nanmin(z), np.nanmax(z)
    if mark["log"]:
        levels, norm = np.geomspace(low, high, CONTOURS), LogNorm(low, high)
    else:
        levels, norm = np.linspace(low, high if high > low else low + 1, CONTOURS), Normalize(low, high)
    axes.contourf(x, y, z, levels=levels, norm=norm, cmap="Greys", alpha=0.55)
    axes.contour(x, y, z, levels=levels, colors="0.45", linewidths=0.4)
    bar = figure.colorbar(ScalarMappable(norm, "Greys"), ax=axes, alpha=0.55, shrink=0.9)
    bar.set_label(mark["label"])


def _path(axes: Axes, mark: dict[str, Any], style: tuple) -> None:
    colour, dashes, marker = style
    x, y = _numbers(mark["x"]), _numbers(mark["y"])
    axes.plot(x, y, color=colour, linestyle=dashes, linewidth=1.4, label=mark["label"] or None, zorder=5)
    axes.plot(x[:1], y[:1], marker, color=colour, markersize=6, markerfacecolor="white", zorder=6, clip_on=False)
    axes.plot(x[-1:], y[-1:], marker, color=colour, markersize=6, zorder=6, clip_on=False)


def _level(axes: Axes, mark: dict[str, Any], style: tuple) -> None:
    axes.axhline(mark["value"], color="0.35", linestyle=(0, (4, 3)), linewidth=1.0, label=mark["label"] or None)


DRAWN = {"line": _line, "points": _points, "path": _path, "level": _level}
