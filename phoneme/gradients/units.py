"""Dead and saturated units: activations through which no gradient comes back."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from phoneme.errors import InputError

# An output is flat where the derivative of the activation is 0, or below the share `small` of its largest value.
FLAT: MappingProxyType[type[nn.Module], Callable[[Tensor, float], Tensor]] = MappingProxyType(
    {
        nn.ReLU: lambda y, small: y <= 0,
        nn.ReLU6: lambda y, small: (y <= 0) | (y >= 6),
        nn.Tanh: lambda y, small: 1 - y * y < small,  # derivative 1 - y^2, at most 1
        nn.Sigmoid: lambda y, small: 4 * y * (1 - y) < small,  # derivative y (1 - y), at most 1/4
    }
)


@dataclass(frozen=True)
class FlatUnits:
    """Of one activation layer over the probe batch."""

    activation: str
    outputs: float  # share of all outputs that are flat
    units: float  # share of units whose every output is flat: for ReLU, dead units

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def flat_units(
    model: nn.Module, inputs: Tensor | tuple[Tensor, ...], *, small: float = 0.01, unit_axis: int = -1
) -> dict[str, FlatUnits]:
    """How much of each ReLU, ReLU6, Tanh and Sigmoid layer lets no gradient through, over a probe batch.

    It separates two causes of a gradient that vanishes in the first layers: units that are dead or saturated (`units`
    high: the rate was too large, the initialization or the inputs are not scaled) from weights that are merely small.
    And for ReLU it separates dead units from sparse ones: `outputs` at 0.5 with `units` at 0 is a network at work.

    The model runs once in evaluation mode. Modes, buffers, gradients and the random state are afterwards what they
    were, and no hook stays. A layer is named by its module; the second use of one module is "NAME#2". Activations
    that are functions (`F.relu`) or inside a recurrent layer cannot be seen, and those without a flat part (GELU)
    have no entry. NaN where an output was not finite. `small` is our choice; `unit_axis` is 1 for convolutions.

    Raises InputError for an empty probe batch and for `small` outside (0, 1).
    """
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)
    if any(tensor.numel() == 0 for tensor in inputs):
        raise InputError(expected="a probe batch", got="no example", where="inputs", hint="a few hundred are enough")
    if not 0.0 < small < 1.0:
        raise InputError(
            expected="a share in (0, 1)", got=small, where="small", hint="0.01: a hundredth of the largest derivative"
        )
    kinds: dict[str, str] = {}
    shares: list[Tensor] = []

    def watch(name: str, module: nn.Module, is_flat: Callable[[Tensor, float], Tensor]):
        def hook(_module: nn.Module, _inputs: Any, outputs: Tensor) -> None:
            uses = sum(known.partition("#")[0] == name for known in kinds)
            kinds[name if not uses else f"{name}#{uses + 1}"] = type(module).__name__
            flat = is_flat(outputs, small).movedim(unit_axis, -1)
            flat = flat.reshape(-1, flat.shape[-1])  # [example, unit]
            both = torch.stack([flat.float().mean(), flat.all(dim=0).float().mean()])
            shares.append(both.where(outputs.isfinite().all(), torch.nan))

        return module.register_forward_hook(hook)

    watched = [(name, module) for name, module in model.named_modules() if type(module) in FLAT]
    handles = [watch(name, module, FLAT[type(module)]) for name, module in watched]
    try:
        with _as_in_evaluation(model, inputs):
            model(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    values = torch.stack(shares).tolist() if shares else []
    return {name: FlatUnits(kind, *pair) for (name, kind), pair in zip(kinds.items(), values, strict=True)}


@contextmanager
def _as_in_evaluation(model: nn.Module, inputs: tuple[Tensor, ...]) -> Iterator[None]:
    """Evaluation mode without gradients; then every module's own mode and the random state as before."""
    training = [module for module in model.modules() if module.training]
    devices = {tensor.device for tensor in inputs if tensor.device.type == "cuda"}
    with torch.no_grad(), torch.random.fork_rng(devices):
        model.eval()
        try:
            yield
        finally:
            for module in training:
                module.training = True
