"""The face of the package: everything about one point, in one call and one answer."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor, nn
from tqdm import tqdm

from phoneme.curvature.answer import CriticalPoint
from phoneme.curvature.basis import inner, norms
from phoneme.curvature.critical_point import (
    PRODUCT_ROUNDINGS,
    Evidence,
    Witness,
    gradient_scale,
    gradient_threshold,
    judge,
)
from phoneme.curvature.density import density_of, quadratures, spectral_density
from phoneme.curvature.ends import Ends, by_decomposition, by_lanczos, unit
from phoneme.curvature.escape import Escape, escape
from phoneme.curvature.homework22_files import answer_if_it_is_one
from phoneme.curvature.hvp import HessianProducts
from phoneme.curvature.inertia import check_room
from phoneme.curvature.kinks import kinks
from phoneme.curvature.minimum_ratio import exact_ratio, ratio_interval, ratio_of
from phoneme.curvature.newton import NewtonStep, newton_step
from phoneme.curvature.objective import Objective
from phoneme.curvature.settings import LEADING, Settings
from phoneme.curvature.taylor import TaylorSlice, taylor
from phoneme.curvature.trace import Trace, trace_of
from phoneme.errors import InputError

DECOMPOSED_SIZE = 2048  # up to here all eigenvalues cost seconds and a few products with 64 vectors at a time
# Where the sign of an extreme needs more products than its value does: as many as cost seconds, or minutes.
MANY_PRODUCTS, FEW_PRODUCTS, LARGE_SIZE = 1000, 300, 100_000
THIRD_STEP = 1e-4  # of max(|theta|, 1): between rounding, eps / step, and the next term of Taylor, step^2
PROBES, STEPS = 3, 60  # random starts of the density and the minimum ratio, and products each
ZERO = 1e-2  # of max |lambda|: within it an eigenvalue counts as zero where the probes count


def analyse(
    model: nn.Module,
    loss: Callable[[Any, Any], Any],
    batches: Iterable[Any],
    *,
    parameters: Sequence[str] | None = None,
    dtype: torch.dtype | None = None,
    tolerance: int | float = 1e-3,
    spectrum: str = "auto",
    batchnorm: str = "eval",
    weight_decay: int | float = 0.0,
    seed: int = 0,
    second: Iterable[Any] | None = None,
    gradient_tolerance: int | float | None = None,
    max_products: int | None = None,
    failure: float = 1e-3,
    progress: bool = False,
) -> CriticalPoint:
    """Is the mean loss of `model` over `batches` at a critical point, and of which kind?

    `loss(model(inputs), targets)` is a mean over the valid targets, or returns (sum, count); a batch is
    `(inputs, targets)`. `Objective` says more about these, `parameters`, `dtype`, `batchnorm` and `weight_decay`.

    - `tolerance`: largest residual of an eigenvalue, and the curvature that may be called flat where no sign can be
      told; both over the largest |eigenvalue|.
    - `spectrum`: "extremes", the two ends only; "probes", also density, trace and minimum ratio by random probes;
      "exact", all signs from the dense Hessian, to about 10,000 parameters; "auto": "exact" up to 2,048 parameters,
      else "probes".
    - `second`: other batches, on which an escape has to hold as well.
    - `gradient_tolerance`: the gradient norm that counts as 0, instead of a thousandth of sqrt(2 kappa |loss|), kappa
      the curvature that the gradient meets.
    - `max_products`: of the search for the two ends; by default 1000, or 300 from 100,000 parameters on.
    - `failure`: the probability that an interval misses what it is for.

    The model is left as it was. Raises InputError for what `Objective` and the products refuse, and for settings out
    of range.
    """
    start = time.perf_counter()
    asked = Settings(spectrum, float(tolerance), gradient_tolerance, max_products, seed, failure)
    objective = Objective(model, loss, batches, parameters, dtype, batchnorm, float(weight_decay))
    other = None
    if second is not None:
        other = Objective(model, loss, second, parameters, torch.float64, batchnorm, float(weight_decay))
    point = _Point(objective, asked)
    with tqdm(desc="curvature", unit="product", leave=False, disable=None if progress else True) as bar:
        point.products.watch = bar.update
        ends = point.ends()
        evidence, curvature = point.evidence(ends)
        flat = max(evidence.flat, ends.lambda_min.bound if evidence.complete else 0.0)
        whole = point.whole(ends, flat)
    point.products.release()
    verdict, why = judge(evidence)
    scale = gradient_scale(point.loss, curvature)
    return CriticalPoint(
        verdict=verdict,
        why=why,
        loss=point.loss,
        gradient_norm=point.norm,
        gradient_norm_relative=point.norm / scale if scale else (0.0 if point.norm == 0 else None),
        gradient_threshold=evidence.gradient_threshold,
        lambda_min=ends.lambda_min,
        lambda_max=ends.lambda_max,
        leading_eigenvalues=ends.leading,
        flat_tolerance=flat,
        witness=evidence.witness,
        **whole,
        taylor=point.slices(),
        escape=point.escape(evidence, other),
        kinks=kinks(objective),
        homework_2_2=answer_if_it_is_one(objective),
        unused_parameters=objective.unused,
        data={"targets": _whole_number(objective.count), "batches": len(objective.batches)},
        cost={
            "products": point.products.done + point.checks,
            "seconds": time.perf_counter() - start,
            "parameters": objective.size,
            "dtype": str(point.products.dtype).removeprefix("torch."),
            "device": str(objective.device),
            "batchnorm": batchnorm,
            "weight_decay": float(weight_decay),
            "tolerance": asked.tolerance,
            "seed": seed,
        },
        parameters=objective.selection.names,
        directions={"lambda_min": ends.down, "lambda_max": ends.up},
    )


class _Point:
    """The objective in its own precision and in float64 (`fine`), and the steps of the answer."""

    def __init__(self, objective: Objective, asked: Settings):
        self.objective, self.asked, self.fine = objective, asked, objective.in_float64()
        small = objective.size <= DECOMPOSED_SIZE
        self.exact = asked.spectrum == "exact" or (asked.spectrum == "auto" and small)
        if self.exact:
            check_room(objective.size, self.fine.dtype, objective.device)
        self.decomposed = self.exact and small
        self.products = HessianProducts(self.fine if self.exact else objective)
        self.loss, self.norm = objective.value(), norms(objective.gradient()[None]).item()
        self.length = norms(objective.point[None]).item()
        self.checks = 0  # products beside those of the spectrum: in float64, and at points nearby
        if not math.isfinite(self.norm):
            raise InputError(
                expected="a finite gradient",
                got=self.norm,
                where="the parameters, or the loss",
                hint="has the training diverged? float32 may overflow: try float64",
            )

    def threshold(self, curvature: float, largest: float) -> float:
        """The gradient norm that counts as 0; moving theta by a rounding changes the gradient by up to `rounding`."""
        if self.asked.gradient_tolerance is not None:
            return float(self.asked.gradient_tolerance)
        rounding = torch.finfo(self.objective.dtype).eps * largest * self.length
        return gradient_threshold(self.loss, curvature, rounding)

    def ends(self) -> Ends:
        """Both ends; their vectors and images in float64 are kept, for bounds, witness and slices."""
        ends = self._ends()
        self.vectors = {"lambda_min": unit(ends.down), "lambda_max": unit(ends.up)}
        self.images = {name: self._image(self.fine, vector) for name, vector in self.vectors.items()}
        if self.products.dtype == self.fine.dtype:
            return ends
        # float32 products cannot tell their own error
        values = {"lambda_min": ends.lambda_min.value, "lambda_max": ends.lambda_max.value}
        residuals = [self.images[name] - values[name] * self.vectors[name] for name in values]
        return ends.widened(*norms(torch.stack(residuals)).tolist())

    def _ends(self) -> Ends:
        if self.decomposed:
            return by_decomposition(self.products, LEADING)
        few = FEW_PRODUCTS if self.objective.size >= LARGE_SIZE else MANY_PRODUCTS
        return by_lanczos(
            self.products,
            LEADING,
            tolerance=self.asked.tolerance,
            max_products=self.asked.max_products or few,
            failure=self.asked.failure,
            seed=self.asked.seed,
            needs_signs=lambda largest: self.norm <= self.threshold(largest, largest),
        )

    def evidence(self, ends: Ends) -> tuple[Evidence, float]:
        """What the verdict rests on, and the curvature that the gradient is held against.

        The gradient meets curvatures of at most max |lambda|. Only if it is small against that one is it worth the
        products to know which it does meet.
        """
        curvature, witness = ends.scale, None
        if self.norm <= self.threshold(curvature, ends.scale):
            products = HessianProducts(self.fine)
            newton = newton_step(products, self.fine.gradient(), ends.scale)
            self.checks += products.done
            curvature = min(newton.curvature(self.norm) or curvature, curvature)
            if self.norm <= self.threshold(curvature, ends.scale):
                witness = self._witness(ends, newton)
        found = Evidence(
            gradient_norm=self.norm,
            gradient_threshold=self.threshold(curvature, ends.scale),
            lambda_min=ends.lambda_min,
            lambda_max=ends.lambda_max,
            tolerance=self.asked.tolerance * ends.scale,
            witness=witness,
            complete=ends.eigenvalues is not None,
        )
        return found, curvature

    def _witness(self, ends: Ends, newton: NewtonStep) -> Witness:
        """The lower Ritz vector in float64: here, a Newton step on, and a little to both sides."""
        vector, here = self.vectors["lambda_min"], self.fine.point
        width = THIRD_STEP * max(self.length, 1.0)
        left, right, nearby = (
            inner(vector[None], self._image(self.fine.at(point), vector)[None]).item()
            for point in (here - width * vector, here + width * vector, here + newton.step)
        )
        return Witness(
            curvature=self._curvature("lambda_min"),
            nearby=nearby,
            third=(right - left) / (2 * width),
            bound=PRODUCT_ROUNDINGS * torch.finfo(self.fine.dtype).eps * ends.scale,
            slope=inner(self.fine.gradient()[None], vector[None].to(here)).item(),
            vector=vector,
        )

    def whole(self, ends: Ends, flat: float) -> dict[str, Any]:
        """Minimum ratio, density and trace, as far as they were asked for."""
        asked, size = self.asked, self.objective.size
        if ends.eigenvalues is not None:
            trace = Trace(float(ends.eigenvalues.sum()), 0.0, 0)
            ratio, density = ratio_of(ends.eigenvalues, flat), density_of(ends.eigenvalues)
        elif asked.spectrum == "extremes":
            trace, ratio, density = None, None, None
        else:
            rules = quadratures(self.products, probes=PROBES, steps=STEPS, seed=asked.seed)
            trace, density = trace_of(rules, size), spectral_density(rules)
            if self.exact:
                ratio = exact_ratio(self.products, flat)
            else:
                ratio = ratio_interval(rules, size, max(ZERO * ends.scale, flat), failure=asked.failure)
        return {"minimum_ratio": ratio, "spectral_density": density, "trace": trace}

    def slices(self) -> tuple[TaylorSlice, ...]:
        """The loss along both extreme eigenvectors, against Taylor."""
        return tuple(
            taylor(self.fine, vector, name=name, curvature=self._curvature(name))
            for name, vector in self.vectors.items()
        )

    def _image(self, objective: Objective, vector: Float64[Tensor, " n"]) -> Float64[Tensor, " n"]:
        """H v, of which no graph is kept."""
        self.checks += 1
        return HessianProducts(objective, memory_gib=0.0)(vector[None])[0].double()

    def _curvature(self, end: str) -> float:
        """v^T H v."""
        return inner(self.vectors[end][None], self.images[end][None]).item()

    def escape(self, evidence: Evidence, second: Objective | None) -> Escape | None:
        if not evidence.bends_down:
            return None
        return escape(self.fine, evidence.witness.vector, evidence.witness.curvature, second=second)


def _whole_number(value: float) -> int | float:
    return int(value) if value.is_integer() else value
