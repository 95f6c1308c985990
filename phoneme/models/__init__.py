"""Networks from a window of frames to the logits of its centre: one file a family.

A model has `context` (frames it sees, odd), `unit` ("frame") and `forward(windows) -> logits`.
"""

from phoneme.models.frame import FrameModel
from phoneme.models.linear import Linear
from phoneme.models.mlp import ACTIVATIONS, Mlp
from phoneme.models.norm import NORMS, make_linear, make_norm
from phoneme.models.width import count_parameters, mlp_parameters, mlp_width_for

__all__ = [
    "ACTIVATIONS",
    "NORMS",
    "FrameModel",
    "Linear",
    "Mlp",
    "count_parameters",
    "make_linear",
    "make_norm",
    "mlp_parameters",
    "mlp_width_for",
]
