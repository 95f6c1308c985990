"""What all pictures share: no window system, one look, atomic files."""

import os
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

INK, SECOND = "#1b3a57", "#c8641b"  # dark and middle: told apart in grey too


def new_figure(width_in: float, height_in: float) -> Figure:
    """An empty figure of a size in inches that never opens a window."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path, dpi: int = 150) -> Path:
    """Write the figure under `path`, whole or not at all; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        figure.savefig(partial, dpi=dpi, format=path.suffix[1:])
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path
