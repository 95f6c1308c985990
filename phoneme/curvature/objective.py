"""One fixed function of the parameters: the mean loss over a probe set."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from phoneme.curvature.derivatives import differentiate, filled
from phoneme.curvature.parameters import as_dtype, exact_arithmetic, leaves_no_trace, select
from phoneme.curvature.probe import Batch, check_targets, fresh, moved, probe_set
from phoneme.curvature.written_out import WrittenOut
from phoneme.errors import InputError

log = logging.getLogger(__name__)

# Two runs of one function may differ by the order of a GPU's sums: some roundings of the loss, and one of logits of
# size 1 where the loss is nearly 0. Dropout moves a loss by far more.
SAME_VALUE_ROUNDINGS = 100

# The batch norms compute with the batch's own statistics in training, and with stored ones in evaluation.
_BATCH_NORM = nn.modules.batchnorm._BatchNorm


class Objective:
    """L(theta) = (sum over batches of count_b mean_b) / (sum of count_b) + weight_decay / 2 |theta|^2.

    `mean_b` is `loss(model(inputs), targets)`, a mean over the targets that count: class indices other than the
    loss's `ignore_index` (-100 if it has none), or all numbers of targets that are not classes. So masked and
    ragged batches have the weight of what is in them. A loss may instead return (sum, count). Inputs may be a
    tensor, a tuple (positional) or a dictionary (by name).

    theta are the parameters of these names, all that are not frozen if None; weight decay is over them alone.
    The function is that of the model at construction: later training does not move it. It is computed in `dtype`,
    or in the parameters' own precision, at least float32. Dropout is off; `batchnorm="train"` takes the statistics
    of each batch, and leaves the running ones alone.

    Attributes: `selection`, `point` (theta, flat), `dtype`, `device`, `count`, `batches`, `batchnorm`,
    `weight_decay`, and `unused`, the names of parameters that the loss does not depend on: their block of
    every derivative is zero.

    Raises InputError for what `select` and `probe_set` refuse, for a loss that is not finite, not a scalar mean, or
    not the same when it is taken twice, and for targets out of range.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[Any, Any], Any],
        batches: Iterable[Any],
        parameters: Sequence[str] | None = None,
        dtype: torch.dtype | None = None,
        batchnorm: str = "eval",
        weight_decay: float = 0.0,
    ):
        if batchnorm not in ("eval", "train"):
            raise InputError(
                expected="eval or train",
                got=batchnorm,
                where="batchnorm",
                hint="eval: the stored statistics; train: those of each batch",
            )
        if getattr(loss, "reduction", "mean") != "mean":
            raise InputError(
                expected="a loss that is a mean",
                got=f"reduction={loss.reduction!r}",
                where="loss",
                hint="reduction='mean', or a function that returns (sum, count)",
            )
        self.model, self.loss, self.batchnorm, self.weight_decay = model, loss, batchnorm, weight_decay
        self.selection = select(model, parameters)
        own = dict(model.named_parameters())
        chosen = [own[name] for name in self.selection.names]
        self.device, self.dtype = chosen[0].device, working_dtype(chosen, dtype)
        with leaves_no_trace(model), torch.inference_mode(False):
            rest = {name: p for name, p in own.items() if name not in self.selection.names}
            self._constants = as_dtype(rest, self.dtype)
            self._buffers = as_dtype(dict(model.named_buffers()), self.dtype)
            self._loss_buffers = as_dtype(dict(loss.named_buffers()), self.dtype) if _is_module(loss) else {}
            self.point = self.selection.flatten([p.detach().to(self.dtype, copy=True) for p in chosen])
            self.batches = probe_set(batches, loss, dtype=self.dtype, device=self.device)
        self._probe()

    @property
    def size(self) -> int:
        """The number of parameters."""
        return self.selection.size

    def at(self, point: Float[Tensor, " n"]) -> "Objective":
        """The same function, to be looked at from another point."""
        moved = copy(self)
        moved.point, moved._gradient = point.detach().to(self.dtype, copy=True), None
        return moved

    def to(self, dtype: torch.dtype) -> "Objective":
        """The same function at the same point in another precision; itself if there is nothing to change."""
        if dtype == self.dtype:
            return self
        other = copy(self)
        other.dtype, other.point, other._gradient = dtype, self.point.to(dtype), None
        for name in ("_constants", "_buffers", "_loss_buffers"):
            setattr(other, name, as_dtype(getattr(self, name), dtype))
        other.batches = [
            Batch(moved(b.inputs, dtype, self.device), moved(b.targets, dtype, self.device), b.count)
            for b in self.batches
        ]
        return other

    def in_float64(self) -> "Objective":
        """The same in float64; itself, with a warning, where model or loss make tensors that stay float32."""
        fine = self.to(torch.float64)
        try:
            fine.gradient()
        except (InputError, RuntimeError, TypeError, ValueError) as error:
            if fine is self:
                raise
            reason = str(error).splitlines()[0]
            log.warning(
                "float64 fails (%s): %s throughout. A tensor made inside wants dtype=x.dtype", reason, self.dtype
            )
            return self
        return fine

    def value(self) -> float:
        """The loss at the point."""
        with self.conditions(), torch.no_grad():
            leaves = self.leaves()
            shares = [self.share(batch, self.outputs(batch, leaves)).double() for batch in self.batches]
            return float(sum(shares)) + self._decay()

    def gradient(self) -> Float[Tensor, " n"]:
        """The gradient at the point; a copy of what is computed once."""
        if self._gradient is None:
            self._gradient = self._value_and_gradient()[1]
        return self._gradient.clone()

    def leaves(self) -> tuple[Tensor, ...]:
        """The selected parameters as fresh tensors that want a gradient."""
        with torch.inference_mode(False):
            return tuple(part.clone().requires_grad_() for part in self.selection.split(self.point))

    def outputs(self, batch: Batch, leaves: Sequence[Tensor]) -> Any:
        """The model on a batch, with these in place of its parameters. Inside `conditions()`."""
        state = {**self._constants, **{name: buffer.clone() for name, buffer in self._buffers.items()}}
        state.update(zip(self.selection.names, leaves, strict=True))
        inputs = fresh(batch.inputs)
        named = inputs if isinstance(inputs, dict) else {}
        in_order = () if named else inputs if isinstance(inputs, tuple) else (inputs,)
        with WrittenOut():
            return functional_call(self.model, state, in_order, named)

    def share(self, batch: Batch, outputs: Any) -> Float[Tensor, ""]:
        """What the batch adds to the loss, weight decay apart."""
        total, _ = self._sum_and_count(batch, outputs)
        return total / self.count

    @contextmanager
    def conditions(self) -> Iterator[None]:
        """The modes and arithmetic the function is defined in; everything is put back on leaving."""
        with ExitStack() as stack:
            stack.enter_context(leaves_no_trace(self.model))
            stack.enter_context(exact_arithmetic(self.model))
            for module in self.model.modules():
                module.training = self.batchnorm == "train" and isinstance(module, _BATCH_NORM)
            yield

    def _sum_and_count(self, batch: Batch, outputs: Any) -> tuple[Tensor, float]:
        if _is_module(self.loss):
            result = functional_call(self.loss, self._loss_buffers, (outputs, batch.targets))
        else:
            result = self.loss(outputs, batch.targets)
        if isinstance(result, tuple) and len(result) == 2 and isinstance(result[0], Tensor) and result[0].numel() == 1:
            return result[0].reshape(()), float(result[1])
        if batch.count is None or not isinstance(result, Tensor) or result.numel() != 1:
            raise InputError(
                expected="a loss that is a scalar mean over a tensor of targets, or (sum, count)",
                got=f"{_kind(result)} for targets that are {_kind(batch.targets)}",
                where="loss",
                hint="what is not a plain mean has to say how much it counts",
            )
        return result.reshape(()) * batch.count, batch.count

    def _decay(self) -> float:
        return 0.5 * self.weight_decay * float(self.point.double().square().sum())

    def _value_and_gradient(self) -> tuple[float, Tensor, list[bool]]:
        """The loss, its gradient, and for each parameter whether the loss depends on it."""
        value, gradient, used = self._decay(), self.weight_decay * self.point, [False] * len(self.selection.names)
        with self.conditions():
            for batch in self.batches:
                leaves = self.leaves()
                share = self.share(batch, self.outputs(batch, leaves))
                value += share.item()
                parts = differentiate(share, leaves)
                used = [known or part is not None for known, part in zip(used, parts, strict=True)]
                gradient = gradient + self.selection.flatten(filled(parts, leaves))
        return value, gradient, used

    def _probe(self) -> None:
        """Count, look for what is wrong, and keep the gradient that this costs."""
        with self.conditions(), torch.no_grad():  # one context: each puts the random state back on leaving
            (sums, counts), (again, _) = self._measure(check=True), self._measure(check=False)
        self.count = float(sum(counts))
        if not self.count > 0:
            raise InputError(
                expected="a probe set with at least one target that counts",
                got=f"a count of {self.count}",
                where="loss",
                hint="the loss returned (sum, count) with nothing in it",
            )
        for index, (first, second) in enumerate(zip(sums, again, strict=True)):
            if abs(first - second) > (SAME_VALUE_ROUNDINGS * abs(first) + counts[index]) * torch.finfo(self.dtype).eps:
                raise InputError(
                    expected="one fixed function",
                    got=f"the losses {first:.9g} and {second:.9g} of one batch",
                    where=f"batch {index}",
                    hint="something random stays on in evaluation mode: F.dropout without "
                    "training=self.training, noise in forward, or a state that forward changes",
                )
        _, self._gradient, used = self._value_and_gradient()
        self.unused = tuple(name for name, yes in zip(self.selection.names, used, strict=True) if not yes)
        if self.unused:
            log.warning(
                "the loss does not depend on %s: a zero block of the gradient and the Hessian", ", ".join(self.unused)
            )

    def _measure(self, check: bool) -> tuple[list[float], list[float]]:
        """The sum of each batch's losses, and how many they are. Inside `conditions()`."""
        sums, counts, leaves = [], [], self.leaves()
        for index, batch in enumerate(self.batches):
            try:
                outputs = self.outputs(batch, leaves)
                if check:
                    check_targets(batch, outputs, self.loss, index)
                total, count = self._sum_and_count(batch, outputs)
            except (InputError, torch.OutOfMemoryError):
                raise
            except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
                raise InputError(
                    expected="a model and a loss that take these inputs and targets",
                    got=(str(error).splitlines() or [type(error).__name__])[0],
                    where=f"batch {index}",
                    hint="does loss(model.eval()(inputs), targets) work, inputs and targets in these shapes and types?",
                ) from error
            if not torch.isfinite(total).all():
                raise InputError(
                    expected="a finite loss",
                    got=total.item(),
                    where=f"batch {index}",
                    hint="has the training diverged, or is there a NaN in the inputs?",
                )
            sums.append(total.item())
            counts.append(count)
        return sums, counts


def working_dtype(chosen: Sequence[Tensor], dtype: torch.dtype | None) -> torch.dtype:
    """float32 or float64: what is asked for, else the parameters' own, widened from half precision (and said).

    Raises InputError when anything else is asked for.
    """
    if dtype not in (None, torch.float32, torch.float64):
        raise InputError(
            expected="torch.float32 or torch.float64",
            got=dtype,
            where="dtype",
            hint="curvature needs the digits: half precision has 3 of them, 2 as bfloat16",
        )
    own = chosen[0].dtype
    for parameter in chosen:
        own = torch.promote_types(own, parameter.dtype)
    working = dtype or torch.promote_types(own, torch.float32)
    if torch.finfo(own).bits < 32:
        log.warning("the parameters are %s: their curvature is computed in %s", own, working)
    return working


def _is_module(loss: Callable) -> bool:
    return isinstance(loss, nn.Module)


def _kind(thing: Any) -> str:
    return f"a tensor {list(thing.shape)}" if isinstance(thing, Tensor) else type(thing).__name__
