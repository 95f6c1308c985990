"""A recurrent network over a window: all of its steps for the answer of one frame."""

from jaxtyping import Float
from torch import Tensor, nn

from phoneme.build import did_you_mean
from phoneme.errors import InputError
from phoneme.models.checks import check_at_least, check_dropout
from phoneme.models.frame import FrameModel
from phoneme.models.recurrent import CELLS, read

STEPS = ("centre", "last")


class WindowedRecurrent(FrameModel):
    """`depth` bidirectional layers of `width` units a direction over the window, then one linear output.

    How most notebooks apply recurrence: `context` steps are computed for each answer, where `Recurrent` computes one.
    `step` is the one that the output reads: `centre`, or `last`, where the reader from the end has seen one frame only
    and the forward one everything. It is there for comparison.

    Raises InputError, `where` naming the key, for an even context, an unknown cell or step, a depth or width below 1,
    or a dropout outside [0, 1).
    """

    def __init__(
        self,
        *,
        coeffs: int,
        classes: int,
        context: int,
        width: int,
        depth: int,
        cell: str = "lstm",
        step: str = "centre",
        dropout: float = 0.0,
    ):
        super().__init__(coeffs=coeffs, classes=classes, context=context)
        if cell not in CELLS:
            raise InputError(expected="a known cell", got=cell, where="model.cell", hint=did_you_mean(cell, CELLS))
        if step not in STEPS:
            raise InputError(expected="centre or last", got=step, where="model.step", hint=did_you_mean(step, STEPS))
        check_at_least("depth", depth, 1, "one layer reads the window in both directions")
        check_at_least("width", width, 1, "512 units are usual among the notebooks")
        check_dropout(dropout)
        between = dropout if depth > 1 else 0.0  # PyTorch has no dropout after the last layer
        self.layers = CELLS[cell](coeffs, width, depth, batch_first=True, bidirectional=True, dropout=between)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(2 * width, classes)
        self.step = context // 2 if step == "centre" else -1

    def forward(self, windows: Float[Tensor, "batch context coeff"]) -> Float[Tensor, "batch classes"]:
        self.check_windows(windows)
        outputs = read(self.layers, windows)  # [batch, context, 2 * width]
        return self.output(self.dropout(outputs[:, self.step]))
