"""Which parameters a surface is over, their flat order, and how to leave a model as it was found."""

import fnmatch
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from phoneme.build import did_you_mean
from phoneme.errors import InputError


@dataclass(frozen=True)
class Selection:
    """Parameters by name, and their places in one flat vector: in the model's order, each row-major.

    >>> Selection(("weight", "bias"), ((2, 3), (2,))).split(torch.arange(8.0))[1]
    tensor([6., 7.])
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @property
    def sizes(self) -> list[int]:
        return [prod(shape) for shape in self.shapes]

    @property
    def size(self) -> int:
        return sum(self.sizes)

    def split(self, flat: Float[Tensor, "*vector n"]) -> tuple[Tensor, ...]:
        """Views of a flat vector, or of several, in the parameters' shapes."""
        parts = flat.split(self.sizes, dim=-1)
        return tuple(p.reshape(flat.shape[:-1] + s) for p, s in zip(parts, self.shapes, strict=True))

    def flatten(self, tensors: Sequence[Tensor]) -> Float[Tensor, " n"]:
        """The inverse of `split` for one vector: always a new tensor."""
        return torch.cat([tensor.reshape(-1) for tensor in tensors])


def select(model: nn.Module, parameters: Sequence[str] | None = None) -> Selection:
    """The parameters of these names, or all that are not frozen.

    A name may be a shell pattern ("blocks.0.*"). One that is asked for by name counts even if it is frozen.

    Raises InputError for a model without parameters, with frozen ones only, and for a name that no parameter has.
    """
    known = {name: p for name, p in model.named_parameters() if p.numel()}
    where = f"the parameters of {type(model).__name__}"
    if not known:
        raise InputError(
            expected="a model with parameters", got="none", where=where, hint="a surface needs at least one direction"
        )
    if parameters is None:
        chosen = [name for name, p in known.items() if p.requires_grad]
        if not chosen:
            raise InputError(
                expected="a parameter that is not frozen",
                got=f"{len(known)} frozen ones",
                where=where,
                hint="name the ones to look at, parameters=[...]: a name counts even if frozen",
            )
    else:
        patterns = (parameters,) if isinstance(parameters, str) else tuple(parameters)
        for pattern in patterns:
            if not any(fnmatch.fnmatchcase(name, pattern) for name in known):
                raise InputError(
                    expected="the name of a parameter, or a pattern",
                    got=pattern,
                    where="parameters",
                    hint=did_you_mean(pattern, known),
                )
        chosen = [name for name in known if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]
        if not chosen:
            raise InputError(
                expected="at least one parameter",
                got="an empty list",
                where="parameters",
                hint="leave it out for all that are not frozen",
            )
    return Selection(tuple(chosen), tuple(tuple(known[name].shape) for name in chosen))


def as_dtype(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Detached copies, the floating ones in this precision."""
    return {
        name: tensor.detach().to(dtype if tensor.is_floating_point() else tensor.dtype, copy=True)
        for name, tensor in tensors.items()
    }


@contextmanager
def leaves_no_trace(model: nn.Module) -> Iterator[None]:
    """Puts back what work with a model may change, also after an exception.

    That is: each module's attributes (its mode, and what a forward pass assigns; not what it changes in place), each
    parameter's `.grad` and `requires_grad`, the buffers (running statistics), and the random states of torch (CPU, and
    the GPUs the model is on), numpy and Python.
    """
    attributes = [(module, dict(vars(module))) for module in model.modules()]
    flags = [(p, p.requires_grad, p.grad) for p in model.parameters()]
    buffers = [
        (module, name, buffer, None if buffer is None else buffer.clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
    ]
    devices = {t.device.index for t in [*model.parameters(), *model.buffers()] if t.is_cuda}
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=sorted(devices)):
        try:
            for parameter, _, _ in flags:
                parameter.grad = None  # a backward pass would add to it in place
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
            for module, before in attributes:
                vars(module).clear()
                vars(module).update(before)
            for parameter, requires_grad, grad in flags:
                if parameter.requires_grad != requires_grad:
                    parameter.requires_grad_(requires_grad)
                parameter.grad = grad
            with torch.no_grad():
                for module, name, buffer, content in buffers:
                    module._buffers[name] = buffer
                    if buffer is not None and not torch.equal(buffer, content):
                        buffer.copy_(content)


@contextmanager
def exact_arithmetic(model: nn.Module) -> Iterator[None]:
    """Arithmetic in which second derivatives exist and float32 means float32, whatever the caller has set.

    Gradients are on and inference mode and autocast are off (a validation loop has it the other way round);
    TF32, with its 10 bits, is off; attention and recurrent layers take their plain kernels, and a compiled model runs
    uncompiled, because fused kernels have no second derivative.
    """
    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    precision = torch.get_float32_matmul_precision()
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device_type in ("cpu", "cuda"):
            stack.enter_context(torch.autocast(device_type, enabled=False))
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH))
        stack.enter_context(torch.backends.cudnn.flags(enabled=not recurrent, deterministic=True, allow_tf32=False))
        torch.set_float32_matmul_precision("highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(precision)
