"""Every figure of a critical point: for each verdict, over many magnitudes, with parts missing."""

import itertools

import numpy as np
import pytest
from matplotlib.figure import Figure

from phoneme.errors import InputError
from phoneme.plots import plot_critical_point, plot_density, plot_extremes, plot_minimum_ratio, plot_taylor, save
from tests.plots.answers import answer, cut, density, extreme, ratio

VERDICTS = ("not_critical", "saddle", "local_minimum", "local_maximum", "degenerate", "undecided")


def message(figure: Figure) -> str:
    return figure.get_suptitle().replace("\n", " ")


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def inside(figure: Figure) -> bool:
    """Is all that is written within the paper?"""
    figure.canvas.draw()
    box, pixel = figure.bbox, 1.0
    boxes = [item.get_tightbbox() for item in figure.axes]
    boxes += [item.get_window_extent() for item in (*figure.legends, figure._suptitle)]
    return all(
        b.x0 >= box.x0 - pixel and b.x1 <= box.x1 + pixel and b.y0 >= box.y0 - pixel and b.y1 <= box.y1 + pixel
        for b in boxes
    )


@pytest.mark.parametrize("verdict", VERDICTS)
def test_every_verdict_is_drawn(verdict, tmp_path):
    figures = plot_critical_point(answer(verdict))
    assert set(figures) == {"extremes", "density", "minimum_ratio", "taylor"}
    for name, figure in figures.items():
        assert save(figure, tmp_path / f"{name}.png").stat().st_size > 0
        assert inside(figure) and message(figure)
        for axes in figure.axes:
            assert axes.get_xlabel()
    words = {"not_critical": "Not a critical point", "local_minimum": "Local minimum", "local_maximum": "Local maximum"}
    assert message(figures["extremes"]).startswith(words.get(verdict, verdict.capitalize()))


@pytest.mark.parametrize("missing", list(itertools.product([True, False], repeat=3)))
def test_what_is_missing_is_not_drawn(missing):
    parts = {"spectral_density": None, "minimum_ratio": None, "taylor": []}
    gone = dict(itertools.compress(parts.items(), missing))
    figures = plot_critical_point(answer(escape=None, **gone))
    assert ("minimum_ratio" in figures) == (not missing[1]) and ("taylor" in figures) == (not missing[2])
    assert all(inside(figure) for figure in figures.values())
    assert ("density" in figures) == (not missing[0])


@pytest.mark.parametrize("low, high", [(-1e-8, 1e4), (-1e-3, 20.0), (-1e-8, 3e-7), (-1e4, 1e-8), (1e-8, 1e4)])
def test_all_magnitudes_fit(low, high):
    drawn = answer("saddle" if low < 0 else "local_minimum", low, high, flat_tolerance=1e-10, minimum_ratio=None)
    assert all(inside(figure) for figure in plot_critical_point(drawn).values())
    axes = plot_extremes(drawn).axes[0]
    at = axes.transData.transform([(0.0, 0.0), (low, 0.0), (high, 0.0)])[:, 0] / axes.bbox.width
    assert abs(at[1] - at[0]) > 0.02 and abs(at[2] - at[0]) > 0.02  # the signs of both can be seen


def test_a_spectrum_of_zeros_is_drawn():
    zero = extreme(0.0, 0.0, 0.0, 7)
    flat = answer(
        "degenerate",
        lambda_min=zero,
        lambda_max=zero,
        leading_eigenvalues=[0.0, 0.0],
        flat_tolerance=0.0,
        minimum_ratio=None,
        spectral_density=density(-0.5, 0.5, probes=0),
        taylor=[cut("lambda_min", 0.0, 0.0) | {"measured": [0.0] * 14, "trusted_radius": None}],
    )
    figures = plot_critical_point(flat)
    assert all(inside(figure) for figure in figures.values())
    assert "at no radius tried along λ_min" in message(figures["taylor"])


def test_extremes_show_bound_and_interval():
    figure = plot_extremes(answer())
    assert message(figure) == "Saddle: the loss bends down along at least one direction, λ_min = −0.42 ± 0.004"
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == [
        "λ_max = 21.3 ± 0.02",
        "λ_2 = 12.8",
        "λ_3 = 6.39",
        "λ_4 = 6.18",
        "λ_5 = 2.13",
        "λ_min = −0.42 ± 0.004",
    ]
    assert "interval for the extreme itself, failing with probability 0.001" in legend(figure)
    whiskers = [line.get_segments()[0][:, 0].tolist() for line in figure.axes[0].collections if line.get_segments()]
    assert whiskers == [
        [pytest.approx(21.2574), pytest.approx(21.3426)],
        [pytest.approx(-0.4284), pytest.approx(-0.4116)],
    ]


def test_a_minimum_known_to_a_bound_only_says_so():
    drawn = answer("local_minimum", lambda_min=extreme(1e-4, 1e-4))
    assert message(plot_extremes(drawn)).startswith("Local minimum: no direction bends down by more than 0.0001, λ_min")


def test_density_marks_zero_and_both_ends():
    figure = plot_density(answer())
    assert message(figure) == "Eigenvalues from λ_min = −0.42 to λ_max = 21.3; at least 90 % of them count as zero"
    labels = legend(figure)
    assert "counts as zero (|λ| ≤ 0.0213)" in labels and "± one standard error" in labels
    assert "λ_max = 21.3 ± 0.02, in [21.26, 21.34]" in labels
    axes = figure.axes[0]
    assert axes.get_yscale() == "log"
    grid = next(line for line in axes.lines if "spectral" in str(line.get_label())).get_xdata()
    np.testing.assert_array_equal(grid, answer()["spectral_density"]["grid"])
    # a single one of 34,601 eigenvalues would show
    assert axes.get_ylim()[0] < 1 / (34601 * answer()["spectral_density"]["sigma"] * np.sqrt(2 * np.pi))


def test_an_exact_density_has_no_error():
    labels = legend(plot_density(answer(spectral_density=density(-0.42, 21.3, probes=0))))
    assert "spectral density (of all 40 eigenvalues)" in labels and "± one standard error" not in labels


def test_taylor_has_parabola_radius_and_escape():
    figure = plot_taylor(answer())
    assert message(figure) == "How far Taylor's model predicts the loss: up to 0.1 along λ_min, up to 0.1 along λ_max"
    assert set(legend(figure)) == {
        "trusted radius",
        "measured loss",
        "Taylor's parabola",
        "after the escape step (0.3 long)",
    }
    down, up = figure.axes
    step, change = down.lines[1].get_data()
    np.testing.assert_allclose(change, -0.21 * step**2)
    assert down.lines[2].get_xydata().tolist() == [[0.3, -0.0192]] and len(up.lines) == 2
    assert "2 points further out not drawn" in down.get_xlabel()
    assert down.get_ylabel() == "change of the loss (here: 2.31)"


def test_the_escape_is_on_its_own_side():
    step = answer()["escape"]
    down = plot_taylor(answer(escape=step | {"sign": -1})).axes[0]
    assert down.lines[2].get_xydata().tolist() == [[-0.3, -0.0192]]
    nowhere = dict.fromkeys(step, None) | {"sign": 1, "lowered": False}
    assert len(plot_taylor(answer(escape=nowhere)).axes[0].lines) == 2


def test_taylor_leaves_out_what_is_not_finite():
    broken = cut("lambda_max", 2.31, 21.3)
    broken["measured"][4:6] = [None, float("nan")]
    figure = plot_taylor(answer(taylor=[broken]))
    assert len(figure.axes) == 1 and len(figure.axes[0].lines[0].get_xdata()) == 14 - 2 - 2 + 1


def test_minimum_ratio_is_an_interval_or_a_mark():
    figure = plot_minimum_ratio(answer())
    assert message(figure) == "Minimum ratio: 5 to 8.1 % of the eigenvalues are positive"
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["5 to 8.1 %", "90.7 to 94.4 %", "0.6 to 1.2 %"]
    exact = plot_minimum_ratio(answer(minimum_ratio=ratio((0.135, 0.135), (0.13, 0.13), 1e-9, exact=True)))
    assert message(exact) == "Minimum ratio: 13.5 % of the eigenvalues are positive (exact)"
    assert [len(line.get_xdata()) for line in exact.axes[0].lines] == [1, 1, 1]


def test_a_picture_without_numbers_is_refused():
    with pytest.raises(InputError, match="expected an answer with a minimum ratio, got none"):
        plot_minimum_ratio(answer(minimum_ratio=None))
    with pytest.raises(InputError, match="expected an answer with losses along eigenvectors, got none"):
        plot_taylor(answer(taylor=[]))
