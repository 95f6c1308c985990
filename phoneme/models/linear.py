"""The model that cannot fail to optimise: its cross-entropy is convex in the weights."""

from jaxtyping import Float
from torch import Tensor, nn

from phoneme.models.frame import FrameModel


class Linear(FrameModel):
    """Multinomial logistic regression over the window: logits = W x + b.

    The baseline against which deeper models are judged: what it reaches, any of them can reach.

    Raises InputError for an even `context`.
    """

    def __init__(self, *, coeffs: int, classes: int, context: int):
        super().__init__(coeffs=coeffs, classes=classes, context=context)
        self.output = nn.Linear(self.inputs, classes)

    def forward(self, windows: Float[Tensor, "batch context coeff"]) -> Float[Tensor, "batch classes"]:
        return self.output(self.flatten(windows))
