"""One experiment a file, in the order of the lecture. The names are read without torch."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from phoneme.lab.experiment import Experiment

NAMES = (
    "shallow_deep",
    "simple_models",
    "overfitting",
    "cross_validation",
    "mismatch",
    "bad_training_set",
    "stalled",
    "critical_points",
    "two_weights",
    "minimum_ratio",
    "batch_time",
    "gradient_noise",
    "batch_size",
    "large_batch",
    "momentum",
    "elongated_bowl",
    "late_burst",
    "warm_up",
    "direction_and_size",
    "loss_surfaces",
    "likelihood",
    "regression_targets",
    "feature_scale",
    "batch_norm",
    "small_batches_norm",
    "covariate_shift",
    "norm_relatives",
)


def find(name: str) -> "Experiment":
    """The experiment of this name, one of NAMES."""
    return importlib.import_module(f"{__name__}.{name}").EXPERIMENT
