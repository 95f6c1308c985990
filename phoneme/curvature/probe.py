"""The probe set: the batches a loss is taken over, held fixed, with the number of targets that count in each."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor

from phoneme.errors import InputError
from phoneme.losses import IGNORE


@dataclass(frozen=True)
class Batch:
    """One batch. `count` is the weight of its mean loss in the whole; None until the loss itself tells."""

    inputs: Any
    targets: Any
    count: float | None


def probe_set(batches: Iterable[Any], loss: Callable, *, dtype: torch.dtype, device: torch.device) -> list[Batch]:
    """All batches (inputs, targets) on the device, floating inputs in `dtype`, those without a valid target left out.

    The iterable is read once, so a loader that shuffles or augments gives a fixed set too.

    Raises InputError when a batch is not a pair, a target is a negative number other than the ignored one, or
    nothing that counts is left.
    """
    found = []
    for index, batch in enumerate(batches):
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise InputError(
                expected="a pair (inputs, targets)",
                got=type(batch).__name__,
                where=f"batch {index}",
                hint="batches is a list or a loader of pairs, [(inputs, targets)] for a single one",
            )
        inputs, targets = (moved(part, dtype, device) for part in batch)
        count = _count(targets, loss, index)
        if count != 0:
            found.append(Batch(inputs, targets, count))
    if not found:
        raise InputError(
            expected="a probe set with at least one target that counts",
            got="none",
            where="batches",
            hint=f"no batch, or every target is ignored ({IGNORE}); a used-up generator is empty too",
        )
    return found


def ignored_by(loss: Callable) -> int:
    """The target that counts for nothing: the loss's own `ignore_index`, else PyTorch's default."""
    bound = getattr(loss, "keywords", {}).get("ignore_index", IGNORE)  # functools.partial
    return int(getattr(loss, "ignore_index", bound))


def check_targets(batch: Batch, outputs: Any, loss: Callable, index: int) -> None:
    """Raises InputError for class indices beyond the outputs; on a GPU they would end the process instead.

    The classes are the last axis of the outputs or, as PyTorch's own losses have it, the second.
    """
    targets = batch.targets
    if not _is_classes(targets) or not isinstance(outputs, Tensor):
        return
    axes = [
        axis
        for axis in {1, outputs.dim() - 1}
        if 0 < axis < outputs.dim() and outputs.shape[:axis] + outputs.shape[axis + 1 :] == targets.shape
    ]
    if not axes:
        return
    classes = max(outputs.shape[axis] for axis in axes)
    wrong = (targets >= classes) & (targets != ignored_by(loss))
    if wrong.any():
        raise InputError(
            expected=f"targets from 0 to {classes - 1}",
            got=int(targets[wrong][0]),
            where=f"batch {index}",
            hint="the model has fewer outputs than the labels have classes",
        )


def moved(part: Any, dtype: torch.dtype, device: torch.device) -> Any:
    """Copies on the device, floating ones in `dtype`, in the same structure."""
    if isinstance(part, Tensor):
        dtype = dtype if part.is_floating_point() else part.dtype
        return part.detach().to(device=device, dtype=dtype, copy=True)
    if isinstance(part, dict):
        return {key: moved(value, dtype, device) for key, value in part.items()}
    if isinstance(part, (tuple, list)):
        return _like(part, [moved(value, dtype, device) for value in part])
    return part


def fresh(part: Any) -> Any:
    """A copy of the tensors: a model may work on its inputs in place."""
    if isinstance(part, Tensor):
        return part.clone()
    if isinstance(part, dict):
        return {key: fresh(value) for key, value in part.items()}
    if isinstance(part, (tuple, list)):
        return _like(part, [fresh(value) for value in part])
    return part


def _like(part: tuple | list, values: list[Any]) -> tuple | list:
    """A sequence of the same type; a named tuple takes its fields one by one."""
    return type(part)(*values) if hasattr(part, "_fields") else type(part)(values)


def _is_classes(targets: Any) -> bool:
    return isinstance(targets, Tensor) and not targets.is_floating_point() and targets.dtype != torch.bool


def _count(targets: Any, loss: Callable, index: int) -> float | None:
    """What a mean over these targets is divided by; class weights count as they do in `nn.CrossEntropyLoss`."""
    if not isinstance(targets, Tensor):
        return None
    if not _is_classes(targets):
        return float(targets.numel())
    valid = targets != ignored_by(loss)
    if (targets[valid] < 0).any():
        raise InputError(
            expected=f"targets of 0 or more, or {ignored_by(loss)} where there is none",
            got=int(targets[valid].min()),
            where=f"batch {index}",
            hint="another mark for padding? give the loss its ignore_index",
        )
    weight = getattr(loss, "weight", None)
    return float(valid.sum()) if weight is None else _weighted(targets[valid], weight, index)


def _weighted(targets: Shaped[Tensor, " valid"], weight: Tensor, index: int) -> float:
    if len(targets) and int(targets.max()) >= len(weight):
        raise InputError(
            expected=f"targets from 0 to {len(weight) - 1}",
            got=int(targets.max()),
            where=f"batch {index}",
            hint="the loss has fewer class weights than the labels have classes",
        )
    return float(weight.detach().double().to(targets.device)[targets.long()].sum())
