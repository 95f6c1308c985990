"""Derivatives, or a clear message where PyTorch has none."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from phoneme.errors import InputError


def differentiate(outputs: Any, inputs: Sequence[Tensor], *args: Any, **options: Any) -> tuple[Tensor | None, ...]:
    """`torch.autograd.grad`, None where nothing depends, as an error with a hint where PyTorch cannot.

    Raises InputError when an operation has no (second) derivative.
    """
    if not any(t.requires_grad for t in (outputs if isinstance(outputs, (tuple, list)) else (outputs,))):
        return (None,) * len(inputs)
    try:
        return torch.autograd.grad(outputs, inputs, *args, allow_unused=True, **options)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise InputError(
            expected="a model and a loss that can be differentiated twice",
            got=str(error).splitlines()[0],
            where="the backward pass",
            hint="an operation in place (x += y, inplace=True) overwrites what the derivative needs: write x = x + y; "
            "a fused kernel, torch.compile or an own autograd.Function may have no second derivative",
        ) from error


def filled(parts: Sequence[Tensor | None], like: Sequence[Tensor]) -> list[Tensor]:
    """Zeros for each derivative that is None."""
    return [torch.zeros_like(t) if part is None else part for part, t in zip(parts, like, strict=True)]
