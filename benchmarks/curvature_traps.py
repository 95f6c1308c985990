"""What goes wrong where a loss, a batch or a mode is not the simplest one: one implementation's answers, as JSON.

    python benchmarks/curvature_traps.py ours|pyhessian|hessian-eigenthings|curvlinops

Small networks with a known answer: a zero tanh network at its exact saddle, whose extreme eigenvalues are
+-2 |mean(y x)|; a BatchNorm network whose products in float64 are taken from the sum over all frames that count.
"""

import argparse
import json
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IGNORE = -100
Batches = list[tuple[Tensor, Tensor]]


class Ours:
    """`lanczos` over `HessianProducts` of an `Objective`."""

    def product(self, model: nn.Module, loss: Any, batches: Batches, vector: Tensor) -> Tensor:
        from phoneme.curvature.hvp import HessianProducts
        from phoneme.curvature.objective import Objective

        return HessianProducts(Objective(model, loss, batches))(vector[None])[0]

    def top(self, model: nn.Module, loss: Any, batches: Batches) -> dict[str, float]:
        from phoneme.curvature.hvp import HessianProducts
        from phoneme.curvature.lanczos import lanczos
        from phoneme.curvature.objective import Objective

        return {"lanczos": lanczos(HessianProducts(Objective(model, loss, batches))).top[0].value}


class PyHessian:
    def _matrix(self, model: nn.Module, loss: Any, batches: Batches) -> Any:
        from pyhessian import hessian

        torch.manual_seed(0)
        return hessian(model, loss, dataloader=batches, cuda=False)

    def product(self, model: nn.Module, loss: Any, batches: Batches, vector: Tensor) -> Tensor:
        parts = vector.split([p.numel() for p in model.parameters()])
        shaped = [part.view_as(p) for part, p in zip(parts, model.parameters(), strict=True)]
        return flat(self._matrix(model, loss, batches).dataloader_hv_product(shaped)[1])

    def top(self, model: nn.Module, loss: Any, batches: Batches) -> dict[str, float]:
        return {"eigenvalues()": self._matrix(model, loss, batches).eigenvalues()[0][0]}


class Eigenthings:
    def _operator(self, model: nn.Module, loss: Any, batches: Batches) -> Any:
        from hessian_eigenthings import HessianOperator, supervised_loss

        return HessianOperator(model, batches, supervised_loss(loss))

    def product(self, model: nn.Module, loss: Any, batches: Batches, vector: Tensor) -> Tensor:
        return self._operator(model, loss, batches).matvec(vector)

    def top(self, model: nn.Module, loss: Any, batches: Batches) -> dict[str, float]:
        from hessian_eigenthings import lanczos, power_iteration_one

        operator = self._operator(model, loss, batches)
        return {
            "power_iteration_one()": power_iteration_one(operator, seed=0)[0],
            "lanczos(k=1, which='LA')": lanczos(operator, k=1, which="LA", seed=0).eigenvalues[0].item(),
        }


class Curvlinops:
    def _operator(self, model: nn.Module, loss: Any, batches: Batches) -> Any:
        from curvlinops import HessianLinearOperator

        return HessianLinearOperator(model, loss, list(model.parameters()), batches)

    def product(self, model: nn.Module, loss: Any, batches: Batches, vector: Tensor) -> Tensor:
        return self._operator(model, loss, batches) @ vector

    def top(self, model: nn.Module, loss: Any, batches: Batches) -> dict[str, float]:
        import numpy
        from scipy.sparse.linalg import eigsh

        operator = self._operator(model, loss, batches).to_scipy(dtype=numpy.float32)
        start = numpy.random.default_rng(0).standard_normal(operator.shape[0]).astype(numpy.float32)
        return {"eigsh(k=1, 'LA')": float(eigsh(operator, k=1, which="LA", v0=start, return_eigenvectors=False)[0])}


WHO = {"ours": Ours, "pyhessian": PyHessian, "hessian-eigenthings": Eigenthings, "curvlinops": Curvlinops}


def flat(parts: Any) -> Tensor:
    return torch.cat([part.detach().reshape(-1) for part in parts])


def saddle(who: Any) -> dict[str, float]:
    """The top eigenvalue that is reported at an exact saddle with +-lambda."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(64, 5, generator=generator)
    targets = 0.5 * inputs[:, :1] - 0.3 * inputs[:, 1:2]
    model = nn.Sequential(nn.Linear(5, 16, bias=False), nn.Tanh(), nn.Linear(16, 1, bias=False))
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    exact = 2 * (targets * inputs).mean(dim=0).norm().item()
    return {"exact": exact} | who.top(model, nn.MSELoss(), [(inputs, targets)])


def speechlike(dropout: float = 0.0) -> tuple[nn.Sequential, Tensor, Tensor]:
    """A BatchNorm network off its initial statistics, 552 frames, labels that depend on them."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(10, 16), nn.BatchNorm1d(16), nn.ReLU(), *([nn.Dropout(dropout)] if dropout else []), nn.Linear(16, 5)
    )
    with torch.no_grad():
        model[1].running_mean += 0.3 * torch.randn(16)
        model[1].running_var += torch.rand(16)
    inputs = torch.randn(552, 10)
    return model.eval(), inputs, (inputs[:, :5] + 0.5 * torch.randn(552, 5)).argmax(dim=1)


def error(who: Any, batches: Batches) -> float:
    """|H v - truth| / |truth|, the truth in float64 over all frames that count."""
    model, _, _ = speechlike()
    vector = torch.randn(sum(p.numel() for p in model.parameters()), generator=torch.Generator().manual_seed(1))
    exact = deepcopy(model).double()
    inputs, targets = (torch.cat(part) for part in zip(*batches, strict=True))
    loss = F.cross_entropy(exact(inputs.double()), targets, ignore_index=IGNORE)
    gradient = torch.autograd.grad(loss, list(exact.parameters()), create_graph=True)
    slope = torch.cat([part.reshape(-1) for part in gradient]) @ vector.double()
    truth = flat(torch.autograd.grad(slope, list(exact.parameters())))
    found = who.product(model, nn.CrossEntropyLoss(), batches, vector)
    return ((found.double() - truth).norm() / truth.norm()).item()


def ragged(who: Any) -> float:
    """Batches of 256, 256 and 40 frames."""
    _, inputs, targets = speechlike()
    return error(who, list(zip(inputs.split(256), targets.split(256), strict=True)))


def masked(who: Any) -> float:
    """Two batches of 256 frames; in one of them 216 are padding, as behind a short utterance."""
    _, inputs, targets = speechlike()
    targets = targets.clone()
    targets[296:512] = IGNORE
    return error(who, [(inputs[:256], targets[:256]), (inputs[256:512], targets[256:512])])


def traces(who: Any) -> list[str]:
    """What a model in training is left with after its top eigenvalue was asked for."""
    model, inputs, targets = speechlike()
    model.train()
    before = SimpleNamespace(buffers=deepcopy(list(model.buffers())), random=torch.get_rng_state())
    try:
        who.top(model, nn.CrossEntropyLoss(), [(inputs, targets)])
    except Exception as refusal:
        return [f"refuses ({type(refusal).__name__})"]
    changed = {
        "evaluation mode": not model.training,
        "running statistics": not all(map(torch.equal, before.buffers, model.buffers())),
        ".grad": any(p.grad is not None for p in model.parameters()),
    }
    return [name for name, yes in changed.items() if yes]


def dropout(who: Any) -> float | str:
    """A training model with dropout 0.5: how far two products with one vector are apart."""
    model, inputs, targets = speechlike(0.5)
    vector = torch.randn(sum(p.numel() for p in model.parameters()), generator=torch.Generator().manual_seed(1))
    try:
        first, second = (
            who.product(deepcopy(model).train(), nn.CrossEntropyLoss(), [(inputs, targets)], vector) for _ in range(2)
        )
    except Exception as refusal:
        return f"refuses ({type(refusal).__name__})"
    return ((first - second).norm() / first.norm()).item()


def table(traps: dict[str, Any]) -> list[str]:
    """What each implementation answers where the problem is not the simplest one."""
    lines = [
        "",
        "| implementation | top eigenvalue at the exact saddle | ragged last batch | padded frames | two products with "
        "dropout | left behind by training mode |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in traps.items():
        top = ", ".join(f"{way}: {value:+.3f}" for way, value in found["saddle"].items() if way != "exact")
        apart = found["dropout"] if isinstance(found["dropout"], str) else f"{found['dropout']:.0e} apart"
        lines.append(
            f"| {name} | {top} (exact {found['saddle']['exact']:+.3f}) | {found['ragged']:.0e} | {found['masked']:.0e} "
            f"| {apart} | {', '.join(found['traces']) or 'nothing'} |"
        )
    return lines if traps else []


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("who", choices=WHO)
    who = WHO[parser.parse_args().who]()
    print(json.dumps({trap.__name__: trap(who) for trap in (saddle, ragged, masked, traces, dropout)}))


if __name__ == "__main__":
    main()
