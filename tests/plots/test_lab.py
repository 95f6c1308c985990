"""Every mark of the lab is drawn, and what is not finite leaves a gap."""

import pytest

from phoneme.lab.pictures import Bars, Level, Line, Panel, Path, Picture, Points, Surface
from phoneme.plots import plot_picture, save

GRID = [0.0, 1.0, 2.0]
BOWL = [[1.0 + x * x + y * y for x in GRID] for y in GRID]


def drawn(*marks, **panel):
    return plot_picture(Picture("name", "What is seen", [Panel("x (s)", "y (m)", marks, **panel)]).to_dict())


def test_a_line_is_the_mean_with_a_band_over_the_seeds():
    axes = drawn(Line("two seeds", [0, 1], [[1.0, 2.0], [3.0, 6.0]])).axes[0]
    assert axes.lines[0].get_ydata().tolist() == [2.0, 4.0]
    band = axes.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == 1.0 and band[:, 1].max() == 6.0
    assert not drawn(Line("one", [0, 1], [1.0, 2.0])).axes[0].collections


def test_what_is_not_finite_is_a_gap_and_not_a_number():
    axes = drawn(Line("diverged", [0, 1, 2], [[1.0, None, None], [3.0, 5.0, None]])).axes[0]
    first, second, third = axes.lines[0].get_ydata()
    assert (first, second) == (2.0, 5.0) and third != third


def test_bars_show_their_seeds():
    axes = drawn(Bars(["a", "b"], [[1.0, 3.0], [4.0, None]], "group")).axes[0]
    assert [patch.get_height() for patch in axes.patches] == [2.0, 4.0]
    assert axes.lines[0].get_ydata().tolist() == [1.0, 3.0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["a", "b"]


def test_a_few_values_on_a_logarithmic_axis_are_its_ticks():
    axes = drawn(Line("few", [2, 4, 32], [1.0, 2.0, 3.0]), x_log=True).axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["2", "4", "32"]
    assert len(axes.get_xticks(minor=True)) == 0
    many = drawn(Line("many", list(range(1, 21)), [1.0] * 20), x_log=True).axes[0]
    assert {2, 5} <= {round(tick) for tick in many.get_xticks(minor=True)}
    wide = drawn(Line("wide", list(range(1, 2001)), [1.0] * 2000), x_log=True).axes[0]
    assert len(wide.get_xticks(minor=True)) == 0


@pytest.mark.parametrize(
    "mark",
    [
        Points("runs", [1, 2], [1.0, 2.0]),
        Level("zero", 0.5),
        Path("descent", [0.0, 1.0], [0.0, 1.0]),
        Surface(GRID, GRID, BOWL, "loss"),
        Surface(GRID, GRID, BOWL, "loss", log=True),
        Surface(GRID, GRID, [[1.0] * 3] * 3, "flat"),
    ],
)
@pytest.mark.parametrize("kind", ["png", "svg"])
def test_every_mark_is_drawn(mark, kind, tmp_path):
    assert save(drawn(mark), tmp_path / f"figure.{kind}").stat().st_size > 3000


def test_axes_have_labels_and_the_message_is_above():
    figure = drawn(Level("zero", 0), x_log=True, y_log=False, title="part")
    axes = figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_xscale()) == ("x (s)", "y (m)", "log")
    assert figure.get_suptitle() == "What is seen" and axes.get_title("left") == "part"
