"""What is installed: configuration and bundled speech travel in the wheel, and work from any directory."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from phoneme.config import REPOSITORY

pytestmark = pytest.mark.skipif(not (REPOSITORY / "pyproject.toml").exists(), reason="not a checkout")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what `pip install` of the wheel would put into site-packages."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
    )
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder / "site")
    return folder / "site"


def test_the_wheel_holds_code_configuration_and_speech(installed):
    for name in (
        "phoneme/conf/train.yaml",
        "phoneme/data/sample/train_split.txt",
        "phoneme/data/sample/LICENSE",
        "phoneme/data/accented/train_split.txt",
        "phoneme/data/accented/LICENSE",
        "phoneme/tables/timit.tsv",
    ):
        assert (installed / name).is_file()
    assert {path.name for path in installed.iterdir() if path.suffix != ".dist-info"} == {"phoneme"}
    assert not list(installed.rglob(".phoneme-cache"))


def test_it_runs_from_another_directory(installed, tmp_path):
    code = (
        "import phoneme.config as c; assert c.PACKAGE == c.CONF.parent, c.CONF\n"
        "import sys; sys.argv = ['phoneme-train', '--cfg', 'job', '--resolve']\n"
        "from phoneme.cli.train import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(installed)},
    )
    assert done.returncode == 0, done.stderr
    assert f"root: {installed / 'phoneme/data/sample'}" in done.stdout


def test_python_package_imports_nothing_heavy():
    code = "import sys, phoneme; assert not {'torch', 'hydra', 'numpy'} & sys.modules.keys(); print(phoneme.load)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "function load" in done.stdout
