"""One experiment a file, in the order of the lecture. The names are read without torch."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from phoneme.lab.experiment import Experiment

NAMES = (
    "bad_training_set",
    "stalled",
    "critical_points",
    "two_weights",
    "minimum_ratio",
    "regression_targets",
)


def find(name: str) -> "Experiment":
    """The experiment of this name, one of NAMES."""
    return importlib.import_module(f"{__name__}.{name}").EXPERIMENT
