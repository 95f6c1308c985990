"""The commands in README.md and docs/ are right: each composes, and those for the bundled speech train a batch."""

import os
import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from phoneme.config import CONF, REPOSITORY, register_schemas
from tests.helpers import command

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]


def commands() -> list[str]:
    """Lines of the ```bash blocks that start one of our programs, without their comments."""
    blocks = (block for page in PAGES for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL))
    lines = (line.split("  #")[0].strip() for block in blocks for line in block.splitlines())
    return sorted({line for line in lines if re.search(r"phoneme-\w+ |phoneme\.cli\.\w+ ", line + " ")})


def parts(line: str) -> tuple[str, list[str]]:
    """The program's name and its overrides, as the shell gives them; of a sweep the first job."""
    line = re.sub(r"'[^']*'", lambda quoted: quoted[0].replace("$", "\0"), line)  # nothing is expanded between quotes
    line = os.path.expandvars(line.replace("$SLURM_JOB_ID", "7")).replace("\0", "$")
    name = re.search(r"phoneme(?:-|\.cli\.)(\w+)", line).group(1)
    words = shlex.split(re.split(r"phoneme(?:-|\.cli\.)\w+", line, maxsplit=1)[1])
    return name, [re.sub(r"^([\w.]+=[^,\[]+),.*", r"\1", word) for word in words if word != "-m"]


def test_there_are_commands():
    assert len(commands()) > 10


@pytest.mark.parametrize("line", commands())
def test_the_command_composes(line):
    name, overrides = parts(line)
    register_schemas()
    assert not re.search(r"\$\w", " ".join(overrides)), "the shell leaves it unexpanded"
    with initialize_config_dir(str(CONF), version_base="1.3"):
        compose(name, overrides, return_hydra_config=True)


@pytest.mark.parametrize(
    "line",
    [
        line
        for line in commands()
        if parts(line)[0] == "train"
        and "ckpt_path" not in line
        and "root=" not in line
        and "devices" not in line
        and "offline" not in line
        and " -m " not in line
    ],
)
def test_the_command_for_the_bundled_speech_trains(line, tmp_path):
    done = command(
        "train",
        *parts(line)[1],
        "trainer.fast_dev_run=true",
        "model.width=32" if "model=linear" not in line else "seed=0",
        f"hydra.run.dir={tmp_path}",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "prediction.csv").exists()


def test_the_two_commands_are_targets_of_the_makefile():
    readme, makefile = (REPOSITORY / "README.md").read_text(), (REPOSITORY / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", readme, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_links_lead_somewhere():
    broken = []
    for page in [*PAGES, REPOSITORY / "CONTRIBUTING.md"]:
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in link and not Path(page.parent, link).exists():
                broken.append(f"{page.name}: {link}")
    assert not broken
