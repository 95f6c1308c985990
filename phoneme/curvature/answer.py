"""The answer of `analyse`: the dictionary critical_point.json as a frozen dataclass."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from phoneme.curvature.critical_point import Extreme, Witness
from phoneme.curvature.density import Density
from phoneme.curvature.escape import Escape
from phoneme.curvature.homework22 import Homework22
from phoneme.curvature.kinks import Kinks
from phoneme.curvature.minimum_ratio import MinimumRatio
from phoneme.curvature.sharpness import Bouncing, Sharpness
from phoneme.curvature.taylor import TaylorSlice
from phoneme.curvature.trace import Trace
from phoneme.files import primitives


@dataclass(frozen=True)
class CriticalPoint:
    """All that `analyse` found at a point; `to_dict()` is critical_point.json."""

    verdict: str  # one of VERDICTS
    why: str
    loss: float
    gradient_norm: float
    gradient_norm_relative: float | None  # over sqrt(2 kappa |loss|); None where that is 0 and the norm is not
    gradient_threshold: float
    lambda_min: Extreme
    lambda_max: Extreme
    leading_eigenvalues: tuple[float, ...]  # descending
    flat_tolerance: float  # a curvature within +- this cannot be told from 0 here
    witness: Witness | None
    minimum_ratio: MinimumRatio | None
    spectral_density: Density | None
    trace: Trace | None
    taylor: tuple[TaylorSlice, ...]
    escape: Escape | None
    kinks: Kinks | None
    homework_2_2: Homework22 | None
    unused_parameters: tuple[str, ...]
    data: dict[str, Any]
    cost: dict[str, Any]
    parameters: tuple[str, ...]  # whose surface it is
    directions: dict[str, Tensor] = field(repr=False)  # unit eigenvectors [n] of lambda_min and lambda_max, flat
    sharpness: Sharpness | None = None  # these two need an optimizer: who has one adds them
    bouncing: Bouncing | None = None

    def to_dict(self) -> dict[str, Any]:
        """Primitives only, for JSON; the directions are not in it."""
        return {
            name: primitives(value) for name, value in vars(self).items() if name not in ("parameters", "directions")
        }
