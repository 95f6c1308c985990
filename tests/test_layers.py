"""Data flows one way: a module imports only from layers above its own in this list (the list of docs/design.md)."""

import ast
from pathlib import Path

import phoneme

ROOT = Path(phoneme.__file__).parent

LAYERS = [
    {"errors"},
    {"build", "files", "phones", "settings", "wording"},
    {"config", "features"},
    {"columns"},
    {"corpora"},
    {"cache"},
    {"store", "splits"},
    {"windows", "batches", "augment"},
    {"models"},
    {"losses", "optim"},
    {"metrics"},
    {"datamodule"},
    {"curvature", "gradients"},
    {"classifier"},
    {"checkpoint"},
    {"callbacks"},
    {"evaluation", "baselines", "decode", "submission", "tracking"},
    {"lab", "doctor", "search"},
    {"plots", "report"},
    {"runs"},
    {"cli"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def imports(path: Path) -> set[str]:
    """First-level module names of `phoneme` that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "phoneme":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("phoneme."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("phoneme.")}
    return found


def test_imports_point_one_way():
    wrong = []
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if name == "__init__":
            continue
        for other in imports(path) - {name}:
            if LEVEL[other] >= LEVEL[name]:
                wrong.append(f"{path.relative_to(ROOT)} imports {other}")
    assert not wrong


def test_every_module_has_a_layer():
    modules = {p.name.removesuffix(".py") for p in ROOT.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    assert modules - {"__init__"} <= LEVEL.keys()


def test_rooms_are_small():
    large = {p.relative_to(ROOT): n for p in ROOT.rglob("*.py") if (n := len(p.read_text().splitlines())) > 300}
    assert not large


def test_the_curvature_layers_know_no_lightning():
    for name in ("curvature", "gradients", "lab"):
        for path in [*ROOT.glob(f"{name}.py"), *ROOT.glob(f"{name}/**/*.py")]:
            assert "lightning" not in path.read_text()
