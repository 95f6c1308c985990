"""Five largest eigenvalues and the smallest of a Hessian: ours against three libraries, and where they go wrong.

    python -m venv PEERS && PEERS/bin/pip install -r benchmarks/requirements-curvature-peers.txt
    OMP_NUM_THREADS=1 python benchmarks/curvature.py --peers-python PEERS/bin/python

The problems are networks of Linear, BatchNorm and ReLU, trained a little on the bundled speech, in evaluation mode:

    a  39-64-64-41, 9.6 k parameters        b  429-64-64-41, 34.6 k        c  429-1024x3-41, 2.6 M; 4,096 frames each

The reference is float64: our `lanczos` at a residual of 1e-8 (c: 1e-3), for a and b checked by SciPy's `eigsh` over the
operator of curvlinops. An error is relative to the largest eigenvalue. Each round runs every implementation once, in a
process of its own; without `--peers-python` only ours is run, and written. Ours is run at the tolerance asked, where
it stops by itself, and at others, as the libraries are, of which the cheapest that is accurate enough is shown.
Writes `results/curvature/{measurements.json,table.md}`; problems that are not run keep what stands there.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from curvature_peers import LIBRARIES, cpu_seconds, load, network, warm_up
from curvature_traps import table as traps

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parent / "results" / "curvature"
FRAMES = 4096


@dataclass(frozen=True)
class Problem:
    """A network, the accuracy asked, and the residual of its float64 reference."""

    context: int
    hidden: tuple[int, ...]
    accuracy: float
    reference: float
    size: str  # how many settings of a library are tried
    rounds: int


PROBLEMS = {
    "a": Problem(1, (64, 64), 1e-3, 1e-8, "small", 3),
    "b": Problem(11, (64, 64), 1e-3, 1e-8, "small", 3),
    "c": Problem(11, (1024,) * 3, 1e-2, 1e-3, "large", 1),
}
LOOSER = (1.5, 2, 3, 10)  # ours is also run at these multiples of the tolerance asked


def build(problem: Problem, path: Path, steps: int = 300) -> None:
    """Train the network for `steps` batches of 512 frames by Adam, and save it with 4,096 frames as a probe set."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from phoneme.config import CONF, register_schemas
    from phoneme.runs.data import open_stores
    from phoneme.windows import gather_windows

    register_schemas()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        store = open_stores(OmegaConf.to_container(compose("train", ["data=sample"]).data, resolve=True)).train
    torch.manual_seed(0)
    sizes = [store.coeffs * problem.context, *problem.hidden, 41]
    model = network(sizes)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def batch(index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        windows = gather_windows(store.frames, store.offsets, index, problem.context)  # [batch, context, coeff]
        return windows.flatten(start_dim=1), store.labels[index].long()

    for _ in range(steps):
        inputs, targets = batch(torch.randint(store.n_frames, (512,)))
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    inputs, targets = batch(torch.randperm(store.n_frames)[:FRAMES])
    torch.save({"sizes": sizes, "state": model.state_dict(), "inputs": inputs, "targets": targets}, path)


def ours(path: Path, problem: Problem, seed: int, device: str) -> list[dict[str, Any]]:
    """From the model to the answer, at the tolerance asked and at looser ones."""
    from phoneme.curvature.hvp import HessianProducts
    from phoneme.curvature.lanczos import lanczos
    from phoneme.curvature.objective import Objective

    model, inputs, targets = load(path, device)
    warm_up(model, inputs, targets)
    rows = []
    for factor in (1, *LOOSER) if problem.size == "small" else (1, 3):
        start, tolerance = cpu_seconds(device), problem.accuracy * factor
        products = HessianProducts(Objective(model, F.cross_entropy, [(inputs, targets)]))
        found = lanczos(products, top=5, bottom=1, tolerance=tolerance, seed=seed)
        rows.append(
            {
                "library": "ours",
                "way": "lanczos",
                "setting": f"tolerance={tolerance:g}",
                "default": factor == 1,
                "seconds": cpu_seconds(device) - start,
                "products": products.done,
                "values": [pair.value for pair in found.top + found.bottom],
            }
        )
    return rows


def reference(path: Path, tolerance: float, device: str) -> list[float]:
    """Five largest and the smallest, in float64."""
    from phoneme.curvature.hvp import HessianProducts
    from phoneme.curvature.lanczos import lanczos
    from phoneme.curvature.objective import Objective

    model, inputs, targets = load(path, device)
    products = HessianProducts(Objective(model, F.cross_entropy, [(inputs, targets)], dtype=torch.float64))
    found = lanczos(products, top=5, bottom=1, tolerance=tolerance, max_products=2000)
    return [pair.value for pair in found.top + found.bottom]


def cost(path: Path, device: str, rounds: int = 7) -> dict[str, float]:
    """CPU-seconds of a gradient, of a product from the kept graph and of one that builds it, in alternation."""
    from phoneme.curvature.hvp import HessianProducts
    from phoneme.curvature.objective import Objective

    model, inputs, targets = load(path, device)
    objective = Objective(model, F.cross_entropy, [(inputs, targets)])
    kept, fresh = HessianProducts(objective), HessianProducts(objective, memory_gib=0)
    vector = torch.randn(1, objective.size, device=device)
    calls = {
        "gradient": lambda: torch.autograd.grad(F.cross_entropy(model(inputs), targets), list(model.parameters())),
        "kept": lambda: kept(vector),
        "fresh": lambda: fresh(vector),
    }
    for call in calls.values():
        call()
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = cpu_seconds(device)
            call()
            taken[name].append(cpu_seconds(device) - start)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def child(python: str | Path, script: str, *arguments: object) -> Any:
    """The JSON that a fresh process with one thread prints last."""
    command = [str(python), "-W", "ignore", str(HERE / script), *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def measure(name: str, peers: Path | None, device: str, folder: Path) -> dict[str, Any]:
    """One problem: the reference, a product's cost, and every setting of every implementation in turn."""
    problem, path = PROBLEMS[name], folder / f"{name}.pt"
    load_before, start = os.getloadavg()[0], time.perf_counter()
    child(sys.executable, "curvature.py", "--one", "build", name, path)
    result = {
        "reference": child(sys.executable, "curvature.py", "--one", "reference", name, path, "--device", device),
        "cost": child(sys.executable, "curvature.py", "--one", "cost", name, path, "--device", device),
    }
    if peers and problem.size == "small":
        checked = child(peers, "curvature_peers.py", path, "curvlinops", "--dtype", "float64", "--device", device)
        result["cross_check"] = error(checked[0]["values"], result["reference"])[0]
    taken: dict[tuple, list[dict[str, Any]]] = {}
    for seed in range(problem.rounds):
        rows = child(sys.executable, "curvature.py", "--one", "ours", name, path, "--seed", seed, "--device", device)
        for library in LIBRARIES if peers else ():
            options = ("--seed", seed, "--size", problem.size, "--device", device)
            rows += child(peers, "curvature_peers.py", path, library, *options)
        for row in rows:
            taken.setdefault((row["library"], row["way"], row["setting"]), []).append(row)
    result["rows"] = [summary(rows, result["reference"]) for rows in taken.values()]
    result["load"] = [load_before, os.getloadavg()[0]]
    result["minutes"] = (time.perf_counter() - start) / 60
    return result


def error(values: list[float], truth: list[float]) -> tuple[float, float]:
    """The largest error of the top five, and the error of the bottom, relative to the largest eigenvalue."""
    if len(values) != len(truth):
        return float("inf"), float("inf")
    errors = [abs(found - exact) / truth[0] for found, exact in zip(values, truth, strict=True)]
    return max(errors[:-1]), errors[-1]


def summary(rows: list[dict[str, Any]], truth: list[float]) -> dict[str, Any]:
    """One setting over the rounds: medians of the cost, the worst of the errors."""
    errors = [error(row["values"], truth) for row in rows]
    return rows[0] | {
        "seconds": statistics.median(row["seconds"] for row in rows),
        "products": statistics.median(row["products"] for row in rows),
        "error_top": max(top for top, _ in errors),
        "error_bottom": max(bottom for _, bottom in errors),
        "sign": all((row["values"][-1] < 0) == (truth[-1] < 0) for row in rows if row["values"]),
    }


def chosen(rows: list[dict[str, Any]], accuracy: float) -> list[tuple[str, dict[str, Any]]]:
    """What the table shows: ours as asked, then the cheapest accurate setting of each way, and each default."""
    shown = []
    for way in dict.fromkeys((row["library"], row["way"]) for row in rows):
        mine = [row for row in rows if (row["library"], row["way"]) == way]
        shown += [("as asked" if way[0] == "ours" else "default", row) for row in mine if row["default"]]
        accurate = [row for row in mine if max(row["error_top"], row["error_bottom"]) <= accuracy]
        if accurate:
            shown.append(("cheapest", min(accurate, key=lambda row: row["seconds"])))
    return shown


def table(results: dict[str, Any]) -> str:
    """The measurements as markdown."""
    lines = [
        "| problem | implementation | setting | | CPU-s | against ours | products | error of the top five | of λ_min "
        "| sign of λ_min |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in sorted(set(results) & set(PROBLEMS)):
        rows = results[name]["rows"]
        base = next(row["seconds"] for row in rows if row["library"] == "ours" and row["default"])
        for why, row in chosen(rows, PROBLEMS[name].accuracy):
            lines.append(
                f"| {name} | {row['library']}: {row['way']} | {row['setting']} | {why} | {row['seconds']:.2f} "
                f"| {row['seconds'] / base:.2f} | {row['products']:g} | {row['error_top']:.1e} "
                f"| {row['error_bottom']:.1e} | {'right' if row['sign'] else '**wrong**'} |"
            )
    lines += ["", "| problem | gradient, ms | product, graph kept | product, fresh graph |", "|---|---|---|---|"]
    for name in sorted(set(results) & set(PROBLEMS)):
        taken = results[name]["cost"]
        lines.append(
            f"| {name} | {1e3 * taken['gradient']:.1f} | {taken['kept'] / taken['gradient']:.2f} gradients "
            f"| {taken['fresh'] / taken['gradient']:.2f} gradients |"
        )
    return "\n".join([*lines, *traps(results.get("traps", {}))])


def one(args: argparse.Namespace) -> Any:
    """One step in this process."""
    step, name, path = args.one
    problem = PROBLEMS[name]
    if step == "build":
        return build(problem, Path(path))
    if step == "reference":
        return reference(Path(path), problem.reference, args.device)
    if step == "cost":
        return cost(Path(path), args.device)
    return ours(Path(path), problem, args.seed, args.device)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers-python", type=Path, help="the interpreter of the libraries' environment")
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="on a GPU seconds are wall time")
    parser.add_argument("--one", nargs=3, metavar=("STEP", "PROBLEM", "FILE"), help="a single step, printed as JSON")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one(args)))
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    file = FOLDER / "measurements.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    results["traps"] = {"ours": child(sys.executable, "curvature_traps.py", "ours")} | {
        library: child(args.peers_python, "curvature_traps.py", library) for library in LIBRARIES if args.peers_python
    }
    with tempfile.TemporaryDirectory() as folder:
        for name in args.problems:
            results[name] = measure(name, args.peers_python, args.device, Path(folder))
            results["machine"] = (
                f"{platform.machine()}, {os.cpu_count()} cores, one thread, {args.device}, "
                f"PyTorch {torch.__version__}, Python {platform.python_version()}"
            )
            file.write_text(json.dumps(results, indent=2) + "\n")
            (FOLDER / "table.md").write_text(f"{table(results)}\n\n{results['machine']}\n")
    print(table(results))


if __name__ == "__main__":
    main()
