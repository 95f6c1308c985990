"""What gradients and activations tell about a training: numbers only, computed on the device and read once a call.

Norms and their company take named tensors: `gradients_of(model)` after `backward()`, `parameters_of(model)`, or any
dictionary by parameter name; `snapshot` keeps a copy for later. A layer is the module that owns the parameters.
"""

from phoneme.gradients.histograms import Histogram, gradient_histograms, weight_histograms
from phoneme.gradients.noise import LEAST_REPEATS, NoiseScale, noise_scale, noise_scale_of_batches
from phoneme.gradients.norms import (
    PerLayer,
    cosine,
    gradient_norms,
    gradients_of,
    parameters_of,
    snapshot,
    step_between,
    update_ratios,
)
from phoneme.gradients.per_example import noise_scale_per_example
from phoneme.gradients.units import FlatUnits, flat_units

__all__ = [
    "LEAST_REPEATS",
    "FlatUnits",
    "Histogram",
    "NoiseScale",
    "PerLayer",
    "cosine",
    "flat_units",
    "gradient_histograms",
    "gradient_norms",
    "gradients_of",
    "noise_scale",
    "noise_scale_of_batches",
    "noise_scale_per_example",
    "parameters_of",
    "snapshot",
    "step_between",
    "update_ratios",
    "weight_histograms",
]
