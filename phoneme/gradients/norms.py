"""Norms of gradients and steps, and the angles between them, of the whole model and of each layer.

Each function reads the device once. Sums run in float64: in float32 a norm of millions loses digits.
NaN and infinity go through: a total that is NaN says that training diverged, the layers say where.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from phoneme.errors import InputError

CACHED = 2**16  # entries: 512 KiB in float64
Named = Mapping[str, Tensor]  # by the parameter's name in the model


@dataclass(frozen=True)
class PerLayer:
    """One number for all parameters together, and one for each layer."""

    total: float
    layers: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def parameters_of(model: nn.Module) -> dict[str, Tensor]:
    """The trainable parameters by name, not copied: an optimizer's step changes them. Keep them with `snapshot`."""
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def gradients_of(model: nn.Module) -> dict[str, Tensor]:
    """The gradients of the trainable parameters by name, not copied.

    A parameter that the loss does not depend on has no `.grad`; its gradient is 0, and so it is here. Under a
    gradient scaler unscale them first. Raises InputError if no parameter has a gradient.
    """
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if all(p.grad is None for p in trainable.values()):
        got = "a model without trainable parameters" if not trainable else "no .grad on any parameter"
        raise InputError(
            expected="a model with gradients",
            got=got,
            where="model",
            hint="call it after loss.backward() and before optimizer.zero_grad()",
        )
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.detach() for name, p in trainable.items()}


def snapshot(tensors: Named) -> dict[str, Tensor]:
    """Copies, on the same device."""
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def step_between(before: Named, after: Named) -> dict[str, Tensor]:
    """after - before, parameter by parameter: the step an optimizer took. Raises InputError if the two do not match."""
    _check_pair(before, after)
    return {name: after[name].detach() - before[name].detach() for name in before}


def gradient_norms(gradients: nn.Module | Named) -> PerLayer:
    """The L2 norm of the gradient (a model's, or given by name), total and by layer; clipping compares the total.

    With a loss that is flat it separates a critical point (norm near 0) from a training that bounces or crawls (norm
    as large as before: the learning rate is too large, or too small, and the surface is not to blame). By layer it
    separates a vanishing gradient (the first layers orders of magnitude below the last) from one that is small
    everywhere. Raises InputError if there is no gradient.
    """
    named = gradients_of(gradients) if isinstance(gradients, nn.Module) else gradients
    if not named:
        raise InputError(
            expected="at least one gradient",
            got="none",
            where="gradients",
            hint="pass a model after loss.backward(), or what gradients_of(model) gives",
        )
    names = list(named)
    values = _read([_norm(named[name]) for name in names])
    return _per_layer(names, lambda chosen: _length(values, chosen))


def update_ratios(before: Named, after: Named) -> PerLayer:
    """||after - before|| / ||before|| by layer: how much of itself a layer changed in one step.

    About 1e-3 is usual (Karpathy, CS231n notes, "Ratio of weights:updates"). It separates the two reasons for a loss
    that hardly moves: 1e-5 and less, the steps are too small for weights of this size (rate too low, gradient
    vanished); 1e-2 and more, they are so large that the layer does not settle. Infinite for a layer that was all 0,
    NaN if it still is. Raises InputError if the two do not match.
    """
    steps = step_between(before, after)
    names = list(steps)
    values = _read([_norm(steps[name]) for name in names] + [_norm(before[name]) for name in names])
    moved, size = values[: len(names)], values[len(names) :]
    return _per_layer(names, lambda chosen: _divide(_length(moved, chosen), _length(size, chosen)))


def cosine(first: Named, second: Named) -> PerLayer:
    """The cosine of the angle between two gradients, or two steps, of successive iterations.

    Of gradients, where the loss falls slowly or not at all: near +1 they agree, and a larger rate or momentum would
    gain; near -1 each step undoes the one before, the parameters bounce between the walls of a valley and the rate is
    too large; near 0 with small batches they are noise. Steps with momentum beta agree by about beta even where the
    gradients are noise: what counts for them is the distance from beta. NaN where one of the two is 0. Raises
    InputError if they do not match.
    """
    _check_pair(first, second)
    names = list(first)
    rows = []
    for name in names:
        pairs = zip(_blocks(first[name]), _blocks(second[name]), strict=True)
        product = torch.stack([torch.dot(_wide(one), _wide(other)) for one, other in pairs]).sum()
        rows += [product, _norm(first[name]), _norm(second[name])]
    values = _read(rows)
    products, a, b = values[0::3], values[1::3], values[2::3]

    def of(chosen: list[int]) -> float:
        return _divide(math.fsum(products[i] for i in chosen), _length(a, chosen) * _length(b, chosen))

    return _per_layer(names, of)


def layer_of(parameter: str) -> str:
    """The module that owns a parameter; a parameter of the model itself is its own layer.

    >>> layer_of("blocks.0.linear.weight"), layer_of("weight")
    ('blocks.0.linear', 'weight')
    >>> layer_of("blocks.0.linear.parametrizations.weight.original1")  # weight normalization
    'blocks.0.linear'
    """
    owner = parameter.split(".parametrizations.")[0]
    return owner if owner != parameter else parameter.rpartition(".")[0] or parameter


def by_layer(tensors: Named) -> dict[str, list[Tensor]]:
    """The tensors of each layer, in the model's order."""
    members: dict[str, list[Tensor]] = {}
    for name, tensor in tensors.items():
        members.setdefault(layer_of(name), []).append(tensor)
    return members


def _per_layer(names: list[str], of: Callable[[list[int]], float]) -> PerLayer:
    """`of` the positions of all parameters, and of those of each layer."""
    members: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        members.setdefault(layer_of(name), []).append(index)
    return PerLayer(of(list(range(len(names)))), {layer: of(chosen) for layer, chosen in members.items()})


def _check_pair(first: Named, second: Named) -> None:
    shapes = [{name: tuple(tensor.shape) for name, tensor in tensors.items()} for tensors in (first, second)]
    different = sorted(name for name in shapes[0] | shapes[1] if shapes[0].get(name) != shapes[1].get(name))
    if different or not first:
        got = f"another {different[0]}" if different else "none"
        raise InputError(
            expected="the same parameters twice",
            got=got,
            where="the first and the second argument",
            hint="both have to come from one model, with the same parameters frozen",
        )


def _wide(tensor: Tensor) -> Tensor:
    """In float64, on Apple's GPU, which has none, in float32."""
    return tensor.detach().to(torch.float32 if tensor.device.type == "mps" else torch.float64)


def _blocks(tensor: Tensor) -> tuple[Tensor, ...]:
    """The entries in a row; on the CPU in pieces whose float64 copies stay in its cache, which is 5 times as fast."""
    flat = tensor.detach().flatten()
    return flat.split(CACHED) if flat.device.type == "cpu" else (flat,)


def _norm(tensor: Tensor) -> Tensor:
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(_wide(part)) for part in _blocks(tensor)]))


def _read(scalars: list[Tensor]) -> list[float]:
    """The one wait for the device."""
    return torch.stack([scalar.to(scalars[0].device) for scalar in scalars]).tolist()


def _length(norms: list[float], chosen: list[int]) -> float:
    """The norm of what these parts make together."""
    return math.sqrt(math.fsum(norms[i] * norms[i] for i in chosen))


def _divide(over: float, under: float) -> float:
    """As IEEE has it for numbers that are not negative: x / 0 is infinite, 0 / 0 NaN."""
    if under == 0:
        return math.nan if over == 0 else math.inf
    return over / under
