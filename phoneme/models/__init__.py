"""Networks from frames to logits: one file a family.

A model says by `unit` what it is given. "frame": windows around single frames, `forward(windows) -> logits` of their
centres, with `context`, the frames of a window (odd). "utterance": whole utterances, zero-padded,
`forward(inputs, lengths) -> logits` of all their frames.
"""

from phoneme.models.attention import Conformer
from phoneme.models.conv import Tcn
from phoneme.models.dropout import DROPOUT_KINDS, FrameDropout
from phoneme.models.frame import FrameModel
from phoneme.models.linear import Linear
from phoneme.models.mlp import ACTIVATIONS, Mlp
from phoneme.models.norm import FRAME_NORMS, NORMS, FrameNorm, make_linear, make_norm
from phoneme.models.over_frames import BatchRenorm, InstanceNorm, MaskedBatchNorm
from phoneme.models.recurrent import CELLS, Recurrent
from phoneme.models.sequence import SequenceModel
from phoneme.models.width import count_parameters, mlp_parameters, mlp_width_for
from phoneme.models.windowed import WindowedRecurrent

__all__ = [
    "ACTIVATIONS",
    "CELLS",
    "DROPOUT_KINDS",
    "FRAME_NORMS",
    "NORMS",
    "BatchRenorm",
    "Conformer",
    "FrameDropout",
    "FrameModel",
    "FrameNorm",
    "InstanceNorm",
    "Linear",
    "MaskedBatchNorm",
    "Mlp",
    "Recurrent",
    "SequenceModel",
    "Tcn",
    "WindowedRecurrent",
    "count_parameters",
    "make_linear",
    "make_norm",
    "mlp_parameters",
    "mlp_width_for",
]
