"""What an answer about the error surface leaves in a run directory."""

from pathlib import Path
from typing import Any

from torch import nn

from phoneme.curvature import CriticalPoint
from phoneme.curvature.parameters import select
from phoneme.files import write_json, write_tensors
from phoneme.plots import plot_critical_point, save
from phoneme.report import write_page


def leave_critical_point(
    answer: CriticalPoint, model: nn.Module, folder: Path, *, about: str, extra: dict[str, Any] | None = None
) -> list[Path]:
    """critical_point.json, directions.pt, figures/ and index.html in `folder`; returns the figures.

    `directions.pt` has the unit eigenvectors of both ends by parameter name, `extra` is added to the JSON.
    """
    content = (extra or {}) | answer.to_dict()
    write_json(folder / "critical_point.json", content)
    selection = select(model, answer.parameters)
    directions = {
        end: dict(zip(selection.names, selection.split(vector.float().cpu()), strict=True))
        for end, vector in answer.directions.items()
    }
    write_tensors(folder / "directions.pt", directions)
    figures = draw(content, folder)
    write_page(folder / "index.html", content, figures, about=about)
    return figures


def draw(content: dict[str, Any], folder: Path) -> list[Path]:
    """The figures of a critical_point.json."""
    return [save(figure, folder / "figures" / f"{name}.png") for name, figure in plot_critical_point(content).items()]
