"""The multilayer perceptron of the homework: the window flattened, hidden blocks, one linear output."""

from types import MappingProxyType

from jaxtyping import Float
from torch import Tensor, nn

from phoneme.build import did_you_mean
from phoneme.errors import InputError
from phoneme.models.checks import check_at_least, check_dropout
from phoneme.models.frame import FrameModel
from phoneme.models.norm import make_linear, make_norm
from phoneme.models.width import mlp_width_for

ACTIVATIONS = MappingProxyType(
    {
        "relu": nn.ReLU,
        "leaky_relu": nn.LeakyReLU,
        "gelu": nn.GELU,
        "silu": nn.SiLU,
        "tanh": nn.Tanh,
        "sigmoid": nn.Sigmoid,
        "selu": nn.SELU,
    }
)


class Block(nn.Module):
    """One hidden block: linear -> norm -> activation -> dropout, plus its input if `residual`."""

    def __init__(self, inputs: int, width: int, *, norm: str, activation: str, dropout: float, residual: bool):
        super().__init__()
        self.linear = make_linear(inputs, width, norm)
        self.norm = make_norm(norm, width)
        self.activation = ACTIVATIONS[activation]()
        self.dropout = nn.Dropout(dropout)
        self.residual = residual

    def forward(self, inputs: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch width"]:
        outputs = self.dropout(self.activation(self.norm(self.linear(inputs))))
        return inputs + outputs if self.residual else outputs


class Mlp(FrameModel):
    """`depth` hidden blocks of `width` units and a linear output.

    `depth` counts the hidden blocks exactly. (The course's sample code counts those after the first: its
    `hidden_layers=3` is depth 4 here.) `residual` adds a block's input to its output where the shapes agree:
    in every block after the first, and in the first if a window has `width` numbers. Instead of `width`, `parameters`
    asks for the width whose parameter count is nearest to that number.

    Raises InputError, `where` naming the key, for an even context, a depth or width below 1, not exactly one of `width`
    and `parameters`, an unknown norm or activation, a dropout outside [0, 1), and for `residual` where no block could
    use it.
    """

    def __init__(
        self,
        *,
        coeffs: int,
        classes: int,
        context: int,
        depth: int,
        width: int | None = None,
        parameters: int | None = None,
        norm: str = "none",
        activation: str = "relu",
        dropout: float = 0.0,
        residual: bool = False,
    ):
        super().__init__(coeffs=coeffs, classes=classes, context=context)
        if (width is None) == (parameters is None):
            raise InputError(
                expected="either a width or a number of parameters",
                got="neither" if width is None else f"width {width} and {parameters} parameters",
                where="model.width, model.parameters",
                hint="set the other to null; with model.parameters the width is solved for",
            )
        if width is None:
            width = mlp_width_for(parameters, coeffs=coeffs, classes=classes, context=context, depth=depth, norm=norm)
        _check(depth=depth, width=width, activation=activation, dropout=dropout)
        if residual and depth == 1 and self.inputs != width:
            raise InputError(
                expected="a block whose input is as wide as its output",
                got=f"one block, {self.inputs} -> {width}",
                where="model.residual",
                hint="set model.depth to 2 or more, or model.residual=false",
            )
        sizes = [self.inputs] + [width] * depth
        self.blocks = nn.Sequential(
            *(
                Block(
                    inputs,
                    width,
                    norm=norm,
                    activation=activation,
                    dropout=dropout,
                    residual=residual and inputs == width,
                )
                for inputs in sizes[:-1]
            )
        )
        self.output = nn.Linear(width, classes)

    def forward(self, windows: Float[Tensor, "batch context coeff"]) -> Float[Tensor, "batch classes"]:
        return self.output(self.blocks(self.flatten(windows)))


def _check(*, depth: int, width: int, activation: str, dropout: float) -> None:
    check_at_least("depth", depth, 1, "a network without hidden blocks is model=linear")
    check_at_least("width", width, 1, "256 is the sample code's")
    if activation not in ACTIVATIONS:
        raise InputError(
            expected="a known activation",
            got=activation,
            where="model.activation",
            hint=did_you_mean(activation, ACTIVATIONS),
        )
    check_dropout(dropout)
