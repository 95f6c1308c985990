"""Homework 2-2 of 2021: the course's two numbers under the course's names, beside the truth.

The question is where a network Linear(1, h) - ReLU - Linear(h, 1), in the course h = 128, stands on the surface of its
mean squared error over a few points: near a local minimum, near a saddle point, or at neither?

The course's matrix, one a linear layer, is sum_n (B_n x A_n)(B_n x A_n)^T with x the Kronecker product, A_n the layer's
input and B_n the derivative of the output with respect to the layer's output. No second derivative and no target is in
it. It has no negative eigenvalue, and no more positive ones than there are points, so that counting `eigenvalue > 0`
without a tolerance counts the signs of rounding errors. `permutation_test` shows it.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from phoneme.errors import InputError

NORM_THRESHOLD = 1e-3  # the course's, for the gradient norm
RATIO_THRESHOLD = 0.5  # the course's, for the minimum ratio
# What rounding can leave of a zero eigenvalue, over the largest one: size * eps, as numpy.linalg.matrix_rank has it.
ROUNDING = 128 * torch.finfo(torch.float32).eps


class _Answer:
    def to_dict(self) -> dict[str, Any]:
        """Primitives only, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class CourseAnswer(_Answer):
    """The course's numbers. An eigenvalue counts as positive above `tolerance` times the layer's largest one."""

    gradient_norm: float  # mean over the two layers of the L2 norm of the weight gradient
    minimum_ratio: float  # mean over the two layers of the share of positive eigenvalues
    minimum_ratio_of_layers: tuple[float, float]
    verdict: str
    tolerance: float


@dataclass(frozen=True)
class ExactHessian(_Answer):
    """The eigenvalues of the whole Hessian in float64, counted by sign.

    `largest_zero` and `smallest_nonzero` are the absolute values on either side of `zero_tolerance`, None where there
    is none: with many orders of magnitude between them, no other sensible tolerance would give other counts.
    """

    positive: int
    negative: int
    zero: int
    minimum_ratio: float  # the lecture's: positive eigenvalues over all
    smallest: float
    largest: float
    zero_tolerance: float
    largest_zero: float | None
    smallest_nonzero: float | None
    loss: float
    gradient_norm: float  # over all parameters, biases too
    nearest_kink: float  # smallest |input| of a ReLU: at 0 there is no Hessian


@dataclass(frozen=True)
class PermutationTest(_Answer):
    """What the course's ratio does when the hidden units are renamed, which changes nothing that a network is.

    `crossings` counts the renamings whose ratio is on the other side of 0.5 than the network's own, and
    `verdict_flips` those whose verdict is another: none where the gradient norm alone decides.
    """

    permutations: int
    seed: int
    minimum_ratio: float  # of the network as it is
    lowest: float
    highest: float
    mean: float
    crossings: int
    verdict_flips: int
    output_change: float  # largest |change of an output|, over all renamings: float32 rounding
    solver_failures: int  # of 2 * permutations eigenvalue problems: PyTorch's solver failed, NumPy's was taken


@dataclass(frozen=True)
class Homework22(_Answer):
    """All answers about one network, as `homework_2_2` in critical_point.json."""

    course: CourseAnswer
    with_tolerance: CourseAnswer
    exact: ExactHessian
    renamed: PermutationTest


def homework22(model: nn.Module, inputs: Tensor, targets: Tensor, **options: int) -> Homework22:
    """Every answer below about one network; `options` are those of `permutation_test`."""
    return Homework22(
        course=course_answer(model, inputs, targets),
        with_tolerance=course_answer(model, inputs, targets, tolerance=ROUNDING),
        exact=exact_hessian(model, inputs, targets),
        renamed=permutation_test(model, inputs, targets, **options),
    )


def course_answer(model: nn.Module, inputs: Tensor, targets: Tensor, *, tolerance: float = 0.0) -> CourseAnswer:
    """Gradient norm, minimum ratio and verdict as the course computes them: in float32, without a tolerance.

    With `tolerance=ROUNDING` only eigenvalues count that are more than rounding. Raises InputError for another network,
    inputs and targets that are not [point, 1], and numbers that are not finite.
    """
    if not 0.0 <= tolerance < 1.0:
        raise InputError(
            expected="a share in [0, 1)",
            got=tolerance,
            where="tolerance",
            hint="it is relative to a layer's largest eigenvalue; 0 is the course's",
        )
    weights, x, y = checked(model, inputs, targets, torch.float32)
    slopes = torch.func.grad(_loss)(weights, x, y)
    norm = (slopes[0].norm() + slopes[2].norm()).item() / 2
    ratios, _ = _positive_shares(weights, x, tolerance)
    ratio = sum(ratios) / 2
    return CourseAnswer(norm, ratio, (ratios[0], ratios[1]), _verdict(norm, ratio), tolerance)


def exact_hessian(model: nn.Module, inputs: Tensor, targets: Tensor) -> ExactHessian:
    """The signs of all eigenvalues of the Hessian of the mean squared error, 385 x 385 in the course, in float64.

    An eigenvalue is zero if it is at most size * eps * largest |eigenvalue|, what rounding can leave of a zero. Raises
    InputError as `course_answer`.
    """
    weights, x, y = checked(model, inputs, targets, torch.float64)
    sizes, shapes = [w.numel() for w in weights], [w.shape for w in weights]

    def loss(flat: Tensor) -> Tensor:
        return _loss(tuple(w.view(s) for w, s in zip(flat.split(sizes), shapes, strict=True)), x, y)

    point = torch.cat([w.flatten() for w in weights])
    eigenvalues = torch.linalg.eigvalsh(torch.func.hessian(loss)(point)).tolist()  # ascending
    magnitudes = [abs(value) for value in eigenvalues]
    zero_tolerance = len(point) * torch.finfo(torch.float64).eps * max(magnitudes)
    positive = sum(value > zero_tolerance for value in eigenvalues)
    negative = sum(value < -zero_tolerance for value in eigenvalues)
    return ExactHessian(
        positive=positive,
        negative=negative,
        zero=len(eigenvalues) - positive - negative,
        minimum_ratio=positive / len(eigenvalues),
        smallest=eigenvalues[0],
        largest=eigenvalues[-1],
        zero_tolerance=zero_tolerance,
        largest_zero=max((m for m in magnitudes if m <= zero_tolerance), default=None),
        smallest_nonzero=min((m for m in magnitudes if m > zero_tolerance), default=None),
        loss=loss(point).item(),
        gradient_norm=torch.func.grad(loss)(point).norm().item(),
        nearest_kink=(x @ weights[0].T + weights[1]).abs().min().item(),
    )


def permutation_test(
    model: nn.Module, inputs: Tensor, targets: Tensor, permutations: int = 1000, seed: int = 0
) -> PermutationTest:
    """How far the course's ratio moves, and how often its verdict flips, when the hidden units are renamed.

    A renamed network is the same function with the same gradient and eigenvalues, so a number that says something about
    the surface cannot move. 0.6 ms a permutation, one core. Raises InputError as `course_answer`, and for none to do.
    """
    if permutations < 1:
        raise InputError(
            expected="at least one permutation",
            got=permutations,
            where="permutations",
            hint="100 show the spread; 1000 give the share of flips to a few per cent",
        )
    own = course_answer(model, inputs, targets)
    weights, x, _ = checked(model, inputs, targets, torch.float32)
    outputs = _outputs(weights, x)
    generator, ratios, failures, change = torch.Generator().manual_seed(seed), [], 0, 0.0
    for _ in range(permutations):
        order = torch.randperm(len(weights[1]), generator=generator)
        renamed = weights[0][order], weights[1][order], weights[2][:, order], weights[3]
        shares, failed = _positive_shares(renamed, x, tolerance=0.0)
        ratios.append(sum(shares) / 2)
        failures, change = failures + failed, max(change, (_outputs(renamed, x) - outputs).abs().max().item())
    crossings = sum((r > RATIO_THRESHOLD) != (own.minimum_ratio > RATIO_THRESHOLD) for r in ratios)
    flips = sum(_verdict(own.gradient_norm, r) != own.verdict for r in ratios)
    return PermutationTest(
        permutations,
        seed,
        own.minimum_ratio,
        min(ratios),
        max(ratios),
        sum(ratios) / permutations,
        crossings=crossings,
        verdict_flips=flips,
        output_change=change,
        solver_failures=failures,
    )


Weights = tuple[Tensor, ...]  # of layer 1 [hidden, 1], its bias [hidden], of layer 2 [1, hidden], its bias [1]


def checked(model: nn.Module, inputs: Tensor, targets: Tensor, dtype: torch.dtype) -> tuple[Weights, Tensor, Tensor]:
    """Weights, inputs and targets on the CPU; InputError if one is wrong."""
    hint = "homework 2-2 has Linear(1, 128) - ReLU - Linear(128, 1) and six points"
    if inputs.ndim != 2 or inputs.shape != targets.shape or inputs.shape[1] != 1 or not len(inputs):
        raise InputError(
            expected="inputs and targets of one shape [point, 1]",
            where="inputs, targets",
            hint=hint,
            got=f"{list(inputs.shape)} and {list(targets.shape)}",
        )
    named = list(model.parameters())
    hidden = len(named[0]) if named and named[0].ndim else 0
    fits = [tuple(p.shape) for p in named] == [(hidden, 1), (hidden,), (1, hidden), (1,)]
    weights = tuple(p.detach().to("cpu", dtype) for p in named)
    if fits:
        with torch.no_grad():
            outputs = model(inputs.to(named[0])).to("cpu", dtype)
        # 1e-3: rounding of float32 is far less, another activation's difference far more
        fits = torch.allclose(outputs, _outputs(weights, inputs.to("cpu", dtype)), 1e-3, 1e-4, equal_nan=True)
    if not fits:
        raise InputError(
            expected="a network Linear(1, h) - ReLU - Linear(h, 1)",
            where="model",
            hint=hint,
            got=" ".join(repr(model).split()),
        )
    x, y = inputs.detach().to("cpu", dtype), targets.detach().to("cpu", dtype)
    for name, tensors in {"model": weights, "inputs": (x,), "targets": (y,)}.items():
        if not all(tensor.isfinite().all() for tensor in tensors):
            raise InputError(
                expected="finite numbers",
                got="NaN or infinity",
                where=name,
                hint="training diverged, or the file is damaged",
            )
    return weights, x, y


def _outputs(weights: Weights, x: Float[Tensor, "point 1"]) -> Float[Tensor, "point 1"]:
    return (x @ weights[0].T + weights[1]).relu() @ weights[2].T + weights[3]


def _loss(weights: Weights, x: Float[Tensor, "point 1"], y: Float[Tensor, "point 1"]) -> Float[Tensor, ""]:
    return (_outputs(weights, x) - y).square().mean()


def _positive_shares(weights: Weights, x: Float[Tensor, "point 1"], tolerance: float) -> tuple[list[float], int]:
    """The share of positive eigenvalues of either layer's matrix, and how often the solver failed."""
    before = x @ weights[0].T + weights[1]  # [point, hidden]
    shares, failures = [], 0
    # A and B of both layers; ones come back from the output
    for a, b in ((x, weights[2] * (before > 0)), (before.relu(), torch.ones_like(x))):
        products = torch.einsum("nl,ni->nli", b, a).flatten(start_dim=1)  # [point, hidden]
        eigenvalues, failed = _eigenvalues(products.T @ products)
        failures += failed
        shares.append(int((eigenvalues > tolerance * eigenvalues.max()).sum()) / len(eigenvalues))
    return shares, failures


def _eigenvalues(matrix: Float[Tensor, "hidden hidden"]) -> tuple[Float[Tensor, " hidden"], bool]:
    """PyTorch's eigenvalues, or NumPy's and True where PyTorch's solver fails. With so many eigenvalues near 0, MKL's
    (2024.2) gives up on 3 matrices in 100, and on 9 in 100 it returns NaN among them without a word.
    """
    try:
        eigenvalues = torch.linalg.eigvalsh(matrix)
        failed = not eigenvalues.isfinite().all()
    except torch.linalg.LinAlgError:
        failed = True
    return (torch.from_numpy(np.linalg.eigvalsh(matrix.numpy())) if failed else eigenvalues), failed


def _verdict(gradient_norm: float, minimum_ratio: float) -> str:
    """The course's three answers."""
    if gradient_norm >= NORM_THRESHOLD:
        return "none of the above"
    return "local minima like" if minimum_ratio > RATIO_THRESHOLD else "saddle point"
