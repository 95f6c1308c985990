"""Pictures from numbers; nothing is computed here that is not drawn."""

from phoneme.plots.confusion import plot_confusion
from phoneme.plots.curves import plot_learning_curves
from phoneme.plots.figure import save

__all__ = ["plot_confusion", "plot_learning_curves", "save"]
