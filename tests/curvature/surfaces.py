"""Surfaces whose curvature is known: matrices with a planted spectrum, small networks with a brute-force Hessian."""

from copy import deepcopy

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

IGNORE = -100
CLASSES = 4


class Dense:
    """A stored matrix with the face of `Products`."""

    def __init__(self, matrix: Tensor):
        self.matrix, self.size, self.dtype, self.device = matrix, len(matrix), matrix.dtype, matrix.device

    def __call__(self, vectors: Tensor) -> Tensor:
        return vectors @ self.matrix


def rotated(eigenvalues: Tensor, seed: int = 0) -> Tensor:
    """A dense float64 matrix with this spectrum, in random directions."""
    generator = torch.Generator().manual_seed(seed)
    size = len(eigenvalues)
    q, _ = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64, generator=generator))
    matrix = (q * eigenvalues.double()) @ q.T
    return (matrix + matrix.T) / 2


def network(activation: type[nn.Module] = nn.Tanh, inputs: int = 3, width: int = 5) -> nn.Sequential:
    """Two hidden layers with batch norm, moved off their initial statistics."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(inputs, width),
        nn.BatchNorm1d(width),
        activation(),
        nn.Dropout(0.5),
        nn.Linear(width, width),
        nn.BatchNorm1d(width),
        activation(),
        nn.Linear(width, CLASSES),
    )
    with torch.no_grad():
        for tensor in [*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())]:
            tensor += 0.3 * torch.rand_like(tensor)
    return model.train()


def ragged_batches(inputs: int = 3) -> list[tuple[Tensor, Tensor]]:
    """Batches of 7, 20 and 11 rows, some without a label; one more has none at all."""
    generator = torch.Generator().manual_seed(1)
    batches = []
    for rows, masked in ((7, 2), (20, 11), (11, 0), (5, 5)):
        targets = torch.randint(CLASSES, (rows,), generator=generator)
        targets[:masked] = IGNORE
        batches.append((torch.randn(rows, inputs, generator=generator), targets))
    return batches


def brute_force(
    model: nn.Module,
    batches: list,
    *,
    names: list[str] | None = None,
    batchnorm: str = "eval",
    weight_decay: float = 0.0,
) -> tuple[float, Tensor, Tensor]:
    """Value, gradient and Hessian of the mean over all labelled rows, written out in float64."""
    model = deepcopy(model).double().eval()
    for module in model.modules():
        module.training = batchnorm == "train" and isinstance(module, nn.BatchNorm1d)
    every = {name: p.detach() for name, p in model.named_parameters()}
    names = list(every) if names is None else names

    def loss(flat: Tensor) -> Tensor:
        parts = flat.split([every[name].numel() for name in names])
        state = {**every, **{n: part.view_as(every[n]) for n, part in zip(names, parts, strict=True)}}
        state |= {name: buffer.clone() for name, buffer in model.named_buffers()}
        total, count = 0.0, 0
        for inputs, targets in batches:
            valid = targets != IGNORE
            if valid.any():
                logits = functional_call(model, state, (inputs.double(),))
                total = total + F.cross_entropy(logits[valid], targets[valid], reduction="sum")
                count += int(valid.sum())
        return total / count + weight_decay / 2 * flat.square().sum()

    point = torch.cat([every[name].flatten() for name in names])
    gradient = torch.autograd.functional.jacobian(loss, point)
    return loss(point).item(), gradient, torch.autograd.functional.hessian(loss, point)


def relative_error(found: Tensor, truth: Tensor) -> float:
    return ((found.double() - truth).norm() / truth.norm()).item()


def state(model: nn.Module) -> list:
    """Everything that work with a model could change."""
    return [
        [module.training for module in model.modules()],
        [(p.requires_grad, None if p.grad is None else p.grad.tolist(), p.tolist()) for p in model.parameters()],
        [buffer.tolist() for buffer in model.buffers()],
        [id(buffer) for buffer in model.buffers()],
        torch.get_rng_state().tolist(),
        str(np.random.get_state()),
        torch.get_float32_matmul_precision(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.backends.cudnn.enabled,
    ]
