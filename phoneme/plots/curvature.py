"""All pictures of a critical point."""

from typing import Any

from matplotlib.figure import Figure

from phoneme.plots.density import plot_density
from phoneme.plots.extremes import plot_extremes
from phoneme.plots.ratio import plot_minimum_ratio
from phoneme.plots.taylor import plot_taylor


def plot_critical_point(answer: dict[str, Any]) -> dict[str, Figure]:
    """The figures that critical_point.json has numbers for, by the name of their file."""
    figures = {"extremes": plot_extremes(answer)}
    if answer["spectral_density"]:
        figures["density"] = plot_density(answer)
    if answer["minimum_ratio"]:
        figures["minimum_ratio"] = plot_minimum_ratio(answer)
    if answer["taylor"]:
        figures["taylor"] = plot_taylor(answer)
    return figures
