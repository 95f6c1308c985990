"""The comparison of recipes and peers: each of its rows is a command, and its table is what its rows say."""

import importlib
import shutil

import pytest

from phoneme.config import REPOSITORY
from phoneme.runs.compose import compose_job

RESULTS = REPOSITORY / "results" / "accuracy"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    return importlib.import_module


def test_every_row_and_every_change_composes(benchmark, tmp_path):
    rows = benchmark("accuracy_rows")
    for _, choices in rows.ROWS.values():
        program = "baseline" if choices[0].startswith("baseline=") else "train"
        compose_job(program, choices, tmp_path)
    for change in rows.ABLATIONS.values():
        compose_job("train", ("experiment=boss", *change), tmp_path)


def test_no_change_is_what_the_recipe_has_already(benchmark, tmp_path):
    recipe, _ = compose_job("train", ("experiment=boss",), tmp_path)
    for name, change in benchmark("accuracy_rows").ABLATIONS.items():
        changed, _ = compose_job("train", ("experiment=boss", *change), tmp_path)
        assert (changed == recipe) == (name == "recipe"), name


def test_the_table_is_made_of_the_rows(benchmark, tmp_path):
    shutil.copytree(RESULTS / "rows", tmp_path / "rows")
    benchmark("accuracy_table").write_table(tmp_path)
    table = (tmp_path / "table.md").read_text()
    assert table == (RESULTS / "table.md").read_text()
    page = (RESULTS / "README.md").read_text()
    missing = [line for line in table.splitlines() if line.startswith("|") and line not in page]
    assert not missing, "results/accuracy/README.md shows other numbers than the rows"
