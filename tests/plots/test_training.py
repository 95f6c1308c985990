"""Pictures of a training: gradients, and the surface over time."""

import math

import pytest

from phoneme.plots import plot_gradients, plot_timeline, save


def step(number: int, norm: float, **more: float) -> dict:
    layers = {f"{group}/{layer}": norm / 2 for group in ("gradients/norm", "updates/ratio") for layer in ("a", "b")}
    return {
        "step": number,
        "learning_rate": 1e-3 * number,
        "gradients/norm/total": norm,
        "updates/ratio/total": norm / 100,
        **layers,
        **more,
    }


def titles(figure) -> str:
    return " ".join([figure.get_suptitle(), *(axes.get_title(loc="left") for axes in figure.axes)])


@pytest.mark.parametrize(
    ("norms", "says"),
    [
        ([4.0, 2.0, 1.0], "fell from 4 to 1"),
        ([1.0, 2.0, 4.0], "rose from 1 to 4"),
        ([1.0, 0.9, 1.1], "stayed near 1.1"),
        ([1.0, 1.0, math.nan], "at the end nan"),
        ([0.0, 0.0, 0.0], "0, at the end 0"),
    ],
)
def test_the_title_says_how_the_gradient_went(norms, says, tmp_path):
    figure = plot_gradients([step(50 * (i + 1), norm) for i, norm in enumerate(norms)])
    assert says in titles(figure)
    assert save(figure, tmp_path / "gradients.png").stat().st_size > 10_000


def test_all_four_panels_have_what_they_are_for():
    figure = plot_gradients([step(50, 2.0), step(100, 1.0, **{"updates/cosine": -0.5})])
    rate, norm, ratio, angle = figure.axes
    assert rate.lines[0].get_ydata().tolist() == [0.05, 0.1]
    assert [line.get_label() for line in norm.lines][-1] == "all" and len(norm.lines) == 3
    assert [line.get_ydata()[0] for line in ratio.lines if "usual" in str(line.get_label())] == [1e-3]
    assert (list(angle.lines[0].get_xdata()), list(angle.lines[0].get_ydata())) == ([100], [-0.5])


def look(number: int, verdict: str, **more: float) -> dict:
    return {"step": number, "verdict": verdict, "lambda_min": -1e-3, "lambda_max": 20.0, **more}


def test_each_verdict_has_a_mark_of_its_own(tmp_path):
    looks = [
        look(10, "not_critical", gradient_norm_relative=0.2),
        look(20, "saddle", gradient_norm_relative=1e-5),
        look(30, "degenerate", gradient_norm_relative=0.0),
        look(40, "undecided"),
    ]
    figure = plot_timeline(looks)
    assert "4 looks" in titles(figure) and "3 at a critical point" in titles(figure)
    marks = {line.get_label(): line.get_marker() for line in figure.axes[1].lines}
    assert marks["not critical"] != marks["saddle"]
    assert figure.axes[1].get_ylim()[0] <= 1e-5
    save(figure, tmp_path / "timeline.png")


def test_one_look_at_a_flat_surface(tmp_path):
    figure = plot_timeline([look(10, "degenerate") | {"lambda_min": 0.0, "lambda_max": 0.0}])
    assert "1 look " in titles(figure)
    save(figure, tmp_path / "timeline.png")
