"""How many parameters a network has, and how wide one must be to have a given number.

The course asks for two networks of equal parameter count, narrow and deep (6 x 1024) against wide and
shallow (2 x 1700 in 2022, 2 x 1750 in 2023). Its code counts the hidden layers after the first, so that these
are 7 and 3 blocks; over 11 frames the equal width lies between the two years' numbers:

>>> window = dict(coeffs=39, classes=41, context=11)
>>> deep = mlp_parameters(1024, depth=7, **window)
>>> deep
6779945
>>> wide = mlp_width_for(deep, depth=3, **window)
>>> wide, mlp_parameters(wide, depth=3, **window)
(1727, 6781970)
"""

from math import isqrt

from torch import nn

from phoneme.errors import InputError
from phoneme.models.norm import NORMS, check_norm, width_multiple


def count_parameters(model: nn.Module) -> int:
    """All learned numbers of a model, each once."""
    return sum(parameter.numel() for parameter in model.parameters())


def mlp_parameters(width: int, *, coeffs: int, classes: int, context: int, depth: int, norm: str = "none") -> int:
    """The exact parameter count of `Mlp` with these arguments: quadratic in the width w,

        (depth - 1) w^2 + (context coeffs + depth (1 + n) + classes) w + classes

    with n the learned numbers the norm adds per unit. Activation, dropout and residual have none.

    >>> mlp_parameters(2, coeffs=1, classes=1, context=1, depth=1)  # 1 -> 2 -> 1: four weights, three biases
    7
    """
    check_norm(norm)
    quadratic, linear = _coefficients(coeffs, classes, context, depth, norm)
    return (quadratic * width + linear) * width + classes


def mlp_width_for(parameters: int, *, coeffs: int, classes: int, context: int, depth: int, norm: str = "none") -> int:
    """The width at which an `Mlp` of this depth has the parameter count nearest to `parameters`.

    The positive root of the quadratic, rounded down in integers, or the next width, whichever is nearer
    (the smaller of two that are equally near). For `norm="group"` only multiples of the group count qualify.

    Raises InputError when even the narrowest network has more parameters, and for a depth below 1.
    """
    check_norm(norm)
    sizes = {"coeffs": coeffs, "classes": classes, "context": context, "depth": depth, "norm": norm}
    step = width_multiple(norm)
    if depth < 1 or parameters < mlp_parameters(step, **sizes):
        raise InputError(
            expected="a depth of at least 1 and as many parameters as the narrowest such network",
            got=f"depth {depth}, {parameters} parameters",
            where="parameters",
            hint="take a smaller context, or the linear model",
        )
    quadratic, linear = _coefficients(coeffs, classes, context, depth, norm)
    budget = parameters - classes
    discriminant = linear**2 + 4 * quadratic * budget
    root = (isqrt(discriminant) - linear) // (2 * quadratic) if quadratic else budget // linear
    below = root // step * step
    return min(below, below + step, key=lambda width: abs(mlp_parameters(width, **sizes) - parameters))


def _coefficients(coeffs: int, classes: int, context: int, depth: int, norm: str) -> tuple[int, int]:
    """The factors of w^2 and of w in the parameter count."""
    return depth - 1, context * coeffs + depth * (1 + NORMS[norm]) + classes
