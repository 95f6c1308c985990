"""Pictures from numbers; nothing is computed here that is not drawn."""

from phoneme.plots.confusion import plot_confusion
from phoneme.plots.curvature import plot_critical_point
from phoneme.plots.curves import plot_learning_curves
from phoneme.plots.density import plot_density
from phoneme.plots.extremes import plot_extremes
from phoneme.plots.figure import save
from phoneme.plots.gradients import plot_gradients
from phoneme.plots.lab import plot_picture
from phoneme.plots.ratio import plot_minimum_ratio
from phoneme.plots.search import plot_search
from phoneme.plots.taylor import plot_taylor
from phoneme.plots.timeline import plot_timeline

__all__ = [
    "plot_confusion",
    "plot_critical_point",
    "plot_density",
    "plot_extremes",
    "plot_gradients",
    "plot_learning_curves",
    "plot_minimum_ratio",
    "plot_picture",
    "plot_search",
    "plot_taylor",
    "plot_timeline",
    "save",
]
