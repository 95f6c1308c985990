"""Products of a matrix of second derivatives with vectors, without the matrix.

The gradient's graph is built once for each batch and kept, so that a product is one more backward pass through it
(Pearlmutter 1994 by reverse over reverse). What does not fit into memory is built again for every product.
"""

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from phoneme.curvature.derivatives import differentiate, filled
from phoneme.curvature.objective import Objective
from phoneme.curvature.parameters import exact_arithmetic
from phoneme.curvature.probe import Batch
from phoneme.errors import InputError

log = logging.getLogger(__name__)

GIB = 1 << 30
SHARE_OF_FREE_MEMORY = 0.5  # the rest is for the products themselves, for the caller, and for an error of the measure
UNKNOWN_MEMORY = 2 * GIB  # where the system does not tell what is free

Apply = Callable[[Sequence[Tensor]], Sequence[Tensor]]  # a vector in the parameters' shapes -> one batch's product


class Products(ABC):
    """A symmetric matrix over the parameters of an objective, as a function [vector, n] -> [vector, n].

    `memory_gib` is what the kept graphs may take: half of the free memory if None. `done` counts the products, and
    `watch`, if set, is called with the number of new ones (a progress bar's `update`).
    """

    def __init__(self, objective: Objective, memory_gib: float | None = None):
        self.objective = objective
        self.size, self.dtype, self.device = objective.size, objective.dtype, objective.device
        self.done = 0
        self.watch: Callable[[int], Any] | None = None
        self._room = free_bytes(self.device) * SHARE_OF_FREE_MEMORY if memory_gib is None else memory_gib * GIB
        self._kept: dict[int, Apply] = {}

    def __call__(self, vectors: Float[Tensor, "vector n"]) -> Float[Tensor, "vector n"]:
        """The matrix times each row. Several rows share a graph that has to be built again.

        Raises InputError when the model or the loss has no second derivative.
        """
        split, objective = self.objective.selection.split, self.objective
        with exact_arithmetic(objective.model):
            vectors = vectors.to(device=self.device, dtype=self.dtype, copy=True)
            total = objective.weight_decay * vectors
            for index, batch in enumerate(objective.batches):
                apply = self._kept.get(index) or self._built(index, batch)
                for row, vector in enumerate(vectors):
                    total[row] += objective.selection.flatten(apply(split(vector)))
        self.done += len(vectors)
        if self.watch is not None:
            self.watch(len(vectors))
        return total

    @abstractmethod
    def linearise(self, batch: Batch) -> Apply:
        """Build the graph of one batch; what is returned holds it."""

    def release(self) -> None:
        """Let the kept graphs go; the next product builds them again."""
        self._kept.clear()

    def _built(self, index: int, batch: Batch) -> Apply:
        """A batch's graph, kept if there is still room for it."""
        if self._room <= 0:
            return self._linearised(batch)
        with _SavedBytes() as saved:
            apply = self._linearised(batch)
        if saved.bytes <= self._room:
            self._room -= saved.bytes
            self._kept[index] = apply
        else:
            log.warning(
                "the graph of batch %d of %d takes %.3g GiB and %.3g are left: from here on graphs are built again for "
                "each product, about twice as slow",
                index + 1,
                len(self.objective.batches),
                saved.bytes / GIB,
                self._room / GIB,
            )
            self._room = 0
        return apply

    def _linearised(self, batch: Batch) -> Apply:
        with self.objective.conditions():
            return self.linearise(batch)


class HessianProducts(Products):
    """H v, H the second derivatives of the objective: the derivative of the gradient along v."""

    def linearise(self, batch: Batch) -> Apply:
        leaves = self.objective.leaves()
        share = self.objective.share(batch, self.objective.outputs(batch, leaves))
        gradient = _with_graph(share, leaves)
        return lambda vector: _along(gradient, leaves, vector)


class GaussNewtonProducts(Products):
    """G v = J^T B J v, J the derivative of the model's outputs and B the second derivatives of the loss there.

    Positive semidefinite for a convex loss (Schraudolph 2002): what is left of H when the model is taken as
    linear. J v comes from the derivative of u -> J^T u, which is linear in u.

    Raises InputError, at a product, for a model whose output is not one tensor.
    """

    def linearise(self, batch: Batch) -> Apply:
        objective, leaves = self.objective, self.objective.leaves()
        outputs = objective.outputs(batch, leaves)
        if not isinstance(outputs, Tensor):
            raise InputError(
                expected="a model whose output is one tensor",
                got=type(outputs).__name__,
                where="the Gauss-Newton matrix",
                hint="wrap the model, or look at the Hessian",
            )
        cotangent = torch.zeros_like(outputs, requires_grad=True)
        pulled = _with_graph(outputs, leaves, cotangent)
        at_outputs = outputs.detach().requires_grad_()
        slope = _with_graph(objective.share(batch, at_outputs), [at_outputs])

        def apply(vector: Sequence[Tensor]) -> Sequence[Tensor]:
            pushed = _along(pulled, [cotangent], vector)
            bent = _along(slope, [at_outputs], pushed)
            return filled(differentiate(outputs, leaves, bent[0], retain_graph=True), leaves)

        return apply


def _with_graph(outputs: Tensor, inputs: Sequence[Tensor], cotangent: Tensor | None = None) -> list[Tensor]:
    """First derivatives that can be differentiated again.

    An autograd.Function marked `once_differentiable` ends in a node "Error" that no further derivative reaches, so
    that PyTorch takes what lies behind it for constant, without a word.

    Raises InputError when there is such a node.
    """
    parts = filled(differentiate(outputs, inputs, cotangent, create_graph=True), inputs)
    nodes = [part.grad_fn for part in parts if part.grad_fn is not None]
    seen = set(nodes)
    while nodes:
        node = nodes.pop()
        if node.name() == "torch::autograd::Error":
            raise InputError(
                expected="a model and a loss that can be differentiated twice",
                got="an autograd.Function that is once_differentiable",
                where="the backward pass",
                hint="write its backward with operations that autograd knows, and take the mark off",
            )
        following = {other for other, _ in node.next_functions if other is not None} - seen
        seen |= following
        nodes += following
    return parts


def _along(outputs: Sequence[Tensor], inputs: Sequence[Tensor], vector: Sequence[Tensor]) -> list[Tensor]:
    """vector^T d outputs / d inputs, zeros where nothing depends; the graph stays."""
    pairs = [(output, v) for output, v in zip(outputs, vector, strict=True) if output.requires_grad]
    if not pairs:
        return filled([None] * len(inputs), inputs)
    rows, weights = zip(*pairs, strict=True)
    return filled(differentiate(rows, inputs, weights, retain_graph=True), inputs)


class _SavedBytes(torch.autograd.graph.saved_tensors_hooks):
    """Counts what autograd saves while a graph is built, each storage once."""

    def __init__(self) -> None:
        self._storages: dict[int, int] = {}
        super().__init__(self._pack, lambda tensor: tensor)

    def _pack(self, tensor: Tensor) -> Any:
        storage = tensor.untyped_storage()
        self._storages[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # itself it would hold its own graph, for ever; autograd ties it in again

    def __enter__(self) -> "_SavedBytes":
        super().__enter__()
        return self

    @property
    def bytes(self) -> int:
        return sum(self._storages.values())


def free_bytes(device: torch.device) -> int:
    """The memory that is free on a device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return UNKNOWN_MEMORY
