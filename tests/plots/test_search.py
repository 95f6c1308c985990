"""The picture of a search."""

import pytest

from phoneme.plots import plot_search, save

SPACE = {
    "optim.lr": {"log": [1e-4, 1e-2]},
    "model.width": {"choice": [128, 256, None]},
    "model.depth": {"int": [2, 5]},
    "data.batch_size": {"log_int": [64, 512]},
}


def trial(number: int, state: str, value: float | None, *values) -> dict:
    return {"number": number, "state": state, "value": value, "parameters": dict(zip(SPACE, values, strict=False))}


ROWS = [
    trial(0, "complete", 0.6, 1e-3, 128, 2, 64),
    trial(1, "pruned", 0.2, 5e-4, None, 5, 512),
    trial(2, "complete", 0.7, 2e-3, 256, 3, 100),
    trial(3, "failed", None, 9e-3, 256, 4, 128),
    trial(4, "running", None, 8e-3),
]


def found(rows: list[dict], best: dict | None) -> dict:
    states = {state: sum(row["state"] == state for row in rows) for state in {row["state"] for row in rows}}
    return {"space": SPACE, "all": rows, "best": best, "metric": "val/accuracy", "states": states}


def marks(axes) -> dict[str, list[tuple]]:
    return {line.get_marker(): list(zip(*line.get_data(), strict=True)) for line in axes.lines if len(line.get_xdata())}


def test_each_setting_has_a_panel_with_every_trial_and_a_ring(tmp_path):
    figure = plot_search(found(ROWS, ROWS[2]))
    assert [axes.get_xlabel() for axes in figure.axes] == list(SPACE)
    rate, width, depth, size = figure.axes
    assert [line.get_xdata()[0] for line in rate.lines if line.get_markersize() > 10] == [2e-3]
    assert marks(rate)["x"] == [(5e-4, 0.2)] and marks(rate)["|"] == [(9e-3, 0.02)]
    assert rate.get_xscale() == size.get_xscale() == "log" and depth.get_xscale() == "linear"
    assert [label.get_text() for label in width.get_xticklabels()] == ["128", "256", "null"]
    assert marks(width)["x"] == [(2, 0.2)]
    assert [text.get_text() for text in figure.legends[0].texts] == ["complete", "pruned", "failed", "best"]
    assert "best val/accuracy 0.7000, trial 2" in figure.get_suptitle()
    assert save(figure, tmp_path / "search.png").stat().st_size > 10_000


@pytest.mark.parametrize("count", [1, 4])
def test_without_a_complete_trial_nothing_is_ringed(count, tmp_path):
    figure = plot_search(found(ROWS[1:2] + ROWS[3 : 2 + count], None))
    assert not any(line.get_markersize() > 10 for axes in figure.axes for line in axes.lines)
    assert save(figure, tmp_path / "search.png").exists()
