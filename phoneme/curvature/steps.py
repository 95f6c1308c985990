"""What an optimizer's steps do on a surface: is it too sharp for them, do they go from wall to wall?"""

import logging
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from phoneme.curvature.objective import Objective
from phoneme.curvature.sharpness import bouncing, preconditioner, sharpness
from phoneme.errors import InputError

log = logging.getLogger(__name__)


def of_the_optimizer(
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    *,
    before: Float[Tensor, " n"] | None = None,
    after: Float[Tensor, " n"] | None = None,
    lr: float | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """`sharpness` against the optimizer's threshold, and `bouncing` of the step between two flat points, if given.

    For a `CriticalPoint`, by `dataclasses.replace`. What cannot be said of this optimizer is left out, with a warning.
    """
    found: dict[str, Any] = {}
    try:
        surface = preconditioner(optimizer, objective.model, objective.selection, lr=lr)
        found["sharpness"] = sharpness(objective, surface, seed=seed)
    except InputError as error:
        log.warning("no sharpness: %s", error)
    if before is not None and after is not None:
        found["bouncing"] = bouncing(objective.in_float64(), before.double(), after.double())
    return found
