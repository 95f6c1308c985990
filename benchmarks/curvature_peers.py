"""The other libraries on one problem file: top five and bottom eigenvalues, products and CPU-seconds, as JSON.

    python benchmarks/curvature_peers.py PROBLEM.pt LIBRARY --seed 0 --size small

Runs in an environment with `requirements-curvature-peers.txt`; `curvature.py --peers-python` starts it. A file holds
the widths of a network, its weights and the probe set; it is read with `weights_only=True`.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Setting = tuple[str, str, bool, Callable[[], list[float]]]  # way, setting, is it the default, run -> eigenvalues
KRYLOV_STEPS = {
    "small": (20, 30, 35, 40, 50, 60, 100),
    "large": (15, 25, 35),
}
ARPACK_TOLERANCES = {"small": (1.0, 0.1, 1e-2), "large": (0.1,)}
ARPACK_BASES = {"small": (None, 40), "large": (None,)}


def network(sizes: list[int]) -> nn.Sequential:
    """Linear, BatchNorm, ReLU for each hidden width; then Linear."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes[:-1]):
        layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(*sizes[-2:]))


def load(path: Path, device: str, dtype: torch.dtype = torch.float32) -> tuple[nn.Sequential, Tensor, Tensor]:
    """A problem's network in evaluation mode, its inputs and its targets."""
    problem = torch.load(path, weights_only=True)
    model = network(problem["sizes"])
    model.load_state_dict(problem["state"])
    return model.to(device, dtype).eval(), problem["inputs"].to(device, dtype), problem["targets"].to(device)


def cpu_seconds(device: str) -> float:
    """This process's CPU time; on a GPU wall time, after the queue is empty."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def warm_up(model: nn.Module, inputs: Tensor, targets: Tensor) -> None:
    """First calls allocate, and PyTorch imports half a second of modules at them: that is nobody's cost."""
    parameters = list(model.parameters())
    for _ in range(3):
        gradient = torch.autograd.grad(F.cross_entropy(model(inputs), targets), parameters, create_graph=True)
        torch.autograd.grad(gradient, parameters, gradient)
    torch.func.jvp(torch.func.jacrev(torch.sin), (torch.ones(()),), (torch.ones(()),))


class Counter:
    """Counts the calls of a function, or what `weight` says one call counts."""

    def __init__(self, function: Callable, weight: Callable[..., int] = lambda *_: 1):
        self.function, self.weight, self.calls = function, weight, 0

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.calls += self.weight(*args)
        return self.function(*args, **options)


def pyhessian(problem: tuple, seed: int, size: str, device: str) -> tuple[Counter, Iterator[Setting]]:
    """Deflated power iteration (by magnitude), and the Lanczos inside its `density`.

    `density` calls `torch.eig`, which PyTorch has no longer: supplied here.
    """
    library = import_module("pyhessian.hessian")  # the package has a class of the same name

    model, inputs, targets = problem
    library.hessian_vector_product = counter = Counter(library.hessian_vector_product)
    torch.eig = _eig

    def matrix() -> Any:
        model.zero_grad(set_to_none=True)
        torch.manual_seed(seed)
        return library.hessian(model, F.cross_entropy, data=(inputs, targets), cuda=device == "cuda")

    def settings() -> Iterator[Setting]:
        if size == "small":
            yield "eigenvalues", "top_n=6", True, lambda: matrix().eigenvalues(top_n=6)[0]
        for steps in KRYLOV_STEPS[size]:
            yield (
                "density, torch.eig supplied",
                f"iter={steps}",
                steps == 100,
                lambda steps=steps: matrix().density(iter=steps)[0][0],
            )

    return counter, settings()


def _eig(matrix: Tensor, eigenvectors: bool) -> tuple[Tensor, Tensor]:
    """`torch.eig` of a symmetric matrix, as it was up to PyTorch 1.13."""
    values, vectors = torch.linalg.eigh(matrix)
    return torch.stack([values, torch.zeros_like(values)], dim=1), vectors


def eigenthings(problem: tuple, seed: int, size: str, device: str) -> tuple[Counter, Iterator[Setting]]:
    """`lanczos` for either end, and its tridiagonal kernel for both ends from one run."""
    import hessian_eigenthings as library

    model, inputs, targets = problem
    loss = library.supervised_loss(F.cross_entropy)
    operator = library.HessianOperator(model, [(inputs, targets)], loss)
    operator._hvp_autograd = counter = Counter(operator._hvp_autograd)

    def ends(**options: Any) -> list[float]:
        found = [
            library.lanczos(operator, k=k, which=which, seed=seed, **options) for k, which in ((5, "LA"), (1, "SA"))
        ]
        return torch.cat([each.eigenvalues for each in found]).tolist()

    def both(steps: int) -> list[float]:
        start = torch.randn(operator.size, generator=torch.Generator().manual_seed(seed)).to(device)
        run = library.lanczos_tridiagonal(operator, start, steps)
        off = run.betas[: steps - 1]
        return torch.linalg.eigvalsh(torch.diag(run.alphas) + torch.diag(off, 1) + torch.diag(off, -1)).tolist()

    def settings() -> Iterator[Setting]:
        yield "lanczos LA + SA", "max_iter=2k", True, ends
        for steps in KRYLOV_STEPS[size]:
            if size == "small":
                yield (
                    "lanczos LA + SA",
                    f"max_iter={steps}",
                    False,
                    lambda steps=steps: ends(max_iter=steps, reorthogonalize=True),
                )
            yield "lanczos_tridiagonal", f"max_iter={steps}", False, lambda steps=steps: both(steps)

    return counter, settings()


def curvlinops(problem: tuple, seed: int, size: str, device: str) -> tuple[Counter, Iterator[Setting]]:
    """SciPy's `eigsh` (ARPACK) over the Hessian operator: either end, or both from one call."""
    import numpy
    from curvlinops import HessianLinearOperator
    from scipy.sparse.linalg import ArpackNoConvergence, eigsh

    model, inputs, targets = problem
    counter = Counter(HessianLinearOperator._matmat, lambda _, vectors: vectors[0].shape[-1])
    HessianLinearOperator._matmat = lambda *args: counter(*args)

    def find(calls: tuple, check: bool = False, **options: Any) -> list[float]:
        operator = HessianLinearOperator(
            model, nn.CrossEntropyLoss(), list(model.parameters()), [(inputs, targets)], check_deterministic=check
        ).to_scipy(dtype=numpy.dtype(str(inputs.dtype).removeprefix("torch.")))
        start = numpy.random.default_rng(seed).standard_normal(operator.shape[0]).astype(operator.dtype)
        found: list[float] = []
        for k, which in calls:
            try:
                found += eigsh(operator, k=k, which=which, v0=start, return_eigenvectors=False, **options).tolist()
            except ArpackNoConvergence as error:
                found += error.eigenvalues.tolist()
        return found

    either, both = ((5, "LA"), (1, "SA")), ((10, "BE"),)

    def settings() -> Iterator[Setting]:
        if inputs.dtype == torch.float64:
            yield "eigsh LA + SA, float64", "tol=1e-10, ncv=60", False, lambda: find(either, tol=1e-10, ncv=60)
            return
        if size == "small":
            yield "eigsh LA + SA", "tol=0", True, lambda: find(either, check=True)
        for tolerance in ARPACK_TOLERANCES[size]:
            for basis in ARPACK_BASES[size]:
                options = {"tol": tolerance} | ({"ncv": basis} if basis else {})
                name = ", ".join(f"{key}={value:g}" for key, value in options.items())
                yield "eigsh LA + SA", name, False, lambda options=options: find(either, **options)
                if tolerance == 1:  # with a smaller one it waits for five of the bottom, of which one is wanted
                    yield "eigsh BE, k=10", name, False, lambda options=options: find(both, **options)

    return counter, settings()


LIBRARIES = {"pyhessian": pyhessian, "hessian-eigenthings": eigenthings, "curvlinops": curvlinops}


def measure(path: Path, name: str, seed: int, size: str, device: str, dtype: torch.dtype) -> list[dict[str, Any]]:
    """Each setting of a library once."""
    problem = load(path, device, dtype)
    warm_up(*problem)
    counter, settings = LIBRARIES[name](problem, seed, size, device)
    rows = []
    for way, setting, default, run in settings:
        before, start = counter.calls, cpu_seconds(device)
        values = sorted(map(float, run()))
        rows.append(
            {
                "library": name,
                "way": way,
                "setting": setting,
                "default": default,
                "seconds": cpu_seconds(device) - start,
                "products": counter.calls - before,
                "values": [*values[:-6:-1], values[0]],
            }
        )
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problem", type=Path)
    parser.add_argument("library", choices=LIBRARIES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", choices=tuple(KRYLOV_STEPS), default="small")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    args = parser.parse_args()
    dtype = getattr(torch, args.dtype)
    print(json.dumps(measure(args.problem, args.library, args.seed, args.size, args.device, dtype)))


if __name__ == "__main__":
    main()
