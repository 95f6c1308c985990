"""The command line as a user meets it: quick to answer, and one clear message when something is wrong."""

import subprocess
import sys

import pytest

from phoneme.cli.explain import explain
from phoneme.config import CONF
from tests.helpers import command, environment, train_in


@pytest.mark.parametrize(
    ("name", "says"),
    [("train", "context"), ("predict", "ckpt_path"), ("baseline", "context"), ("search", "space"), ("lab", "seeds")],
)
@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"]])
def test_answers_without_torch(name, says, arguments, tmp_path):
    code = (
        f"import sys; sys.argv = ['phoneme-{name}', *{arguments}]\n"
        f"from phoneme.cli.{name} import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        "modules = {'torch', 'pytorch_lightning', 'wandb', 'matplotlib', 'numpy', 'sklearn', 'optuna'}\n"
        "heavy = modules & sys.modules.keys()\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert says in done.stdout


def test_help_names_every_group_and_option(tmp_path):
    text = {
        name: command(name, "--help", cwd=tmp_path).stdout for name in ("train", "predict", "baseline", "search", "lab")
    }
    page_of = {"decode": "predict", "baseline": "baseline", "space": "search", "lab": "lab"}
    hidden = {"common", "phoneme"}
    for group in (path for path in CONF.iterdir() if path.is_dir() and path.name != "hydra"):
        page = text[page_of.get(group.name, "train")]
        for option in group.glob("*.yaml"):
            assert option.stem in hidden or option.stem in page, f"{group.name}={option.stem} is not in --help"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.lrr=1", "expected a known setting, got optim.lrr"),
        ("+optim.lrr=1", "did you mean lr?"),
        ("+nonsense=1", "expected a known setting, got nonsense"),
        ("data.split.sed=1", "did you mean seed?"),
        ("model.width=wide", "Value 'wide' of type 'str' could not be converted to Integer"),
        ("trainer.max_epochs=1.5", "where: trainer.max_epochs"),
        ("optim=adamz", "did you mean adam?"),
        ("data=libriphone", "expected a value for data.root, got none"),
        ("lr=0.1", "did you mean optim.lr?"),
        ("epochs=3", "did you mean trainer.max_epochs?"),
        ("--epochs=3", "without dashes, e.g. trainer.max_epochs=10"),
        ("augment.speeed.most=1", "expected a known setting, got augment.speeed"),
        ("model.width", "expected NAME=VALUE, got model.width"),
        ("data.root=~/data", "needs quotes inside quotes"),
    ],
)
def test_a_wrong_setting_fails_before_torch_is_there(override, message, tmp_path):
    code = (
        f"import sys; sys.argv = ['phoneme-train', {override!r}]\n"
        "from phoneme.cli.train import main\n"
        "try: main()\n"
        "finally: assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert "hint:" in done.stderr and "where:" in done.stderr


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["model.context=10"], ["expected an odd number of frames, got 10", "where: model.context"]),
        (
            ["ckpt_path=nowhere/last.ckpt"],
            ["expected a checkpoint file, got no such file", "where: nowhere/last.ckpt"],
        ),
        (["data=libriphone", "data.root=nowhere"], ["no such folder", "hint: set data.root"]),
        (["+callbacks.mine.patience=3"], ["expected a section with a _target_", "where: callbacks.mine"]),
        (["+callbacks.early_stopping.patienc=3"], ["did you mean patience?"]),
        (
            ["model._target_=phoneme.models.Mpl"],
            ["expected the dotted path of a class, got phoneme.models.Mpl"],
        ),
        (["model.dropout=1.5"], ["where: model.dropout"]),
        (["model.norm=bach"], ["did you mean batch?"]),
        (["optim.lr=-1"], ["where: optim.lr"]),
        (["data.device=gpu"], ["expected auto or cpu, got gpu"]),
        (["data.sample_submission=nowhere.csv"], ["No such file or directory", "where: nowhere.csv"]),
        (["data.split.folds=5", "data.split.fold=5"], ["where: data.split.fold"]),
        (["trainer.accelerator=gpus"], ["did you mean gpu?", "where: trainer.accelerator"]),
        (["trainer.max_epochs=0"], ["expected at least 1, got 0", "where: trainer.max_epochs"]),
        (["trainer.check_val_every_n_epoch=0"], ["where: trainer.check_val_every_n_epoch"]),
        (["trainer.log_every_n_steps=0"], ["where: trainer.log_every_n_steps"]),
        (["trainer.precision=8"], ["expected auto or 32-true or bf16-mixed or 16-mixed, got 8", "hint:"]),
    ],
)
def test_bad_input_gets_one_message(overrides, parts, tmp_path):
    with pytest.raises(Exception) as caught:
        train_in(tmp_path, *overrides)
    message = explain(caught.value)
    for part in ("hint:", *parts):
        assert part in message, message


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("predict", ["a.ckpt"], "hint: ckpt_path=a.ckpt"),
        (
            "predict",
            ["ckpt_path=a.ckpt", "data=libriphon"],
            "did you mean libriphone? known here: accented, audio, lib",
        ),
        ("diagnose", ["ckpt_path=a.ckpt", "data=libriphon"], "did you mean libriphone?"),
        ("predict", ["ckpt_path=a.ckpt", "data.root=/x"], "say which data: data=NAME data.root=…"),
        ("train", ["-m", "experiment=best", "--cfg", "job"], "leave out -m"),
        ("search", ['train=["model=linear"]'], "where: space.model.width"),
    ],
)
def test_a_mistake_is_answered_with_what_to_write(name, arguments, message, tmp_path):
    done = command(name, *arguments, cwd=tmp_path)
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_an_error_ends_the_process_with_1_and_no_traceback(tmp_path):
    done = command("train", "model.context=10", cwd=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "error: expected an odd number of frames, got 10" in done.stderr


def test_a_run_directory_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    done = command("train", f"hydra.run.dir={tmp_path}/file/run", cwd=tmp_path)
    assert done.returncode == 1 and f"where: {tmp_path}/file" in done.stderr and "Traceback" not in done.stderr


def test_a_traceback_on_request(tmp_path, monkeypatch):
    monkeypatch.setenv("PHONEME_TRACEBACK", "1")
    assert "Traceback" in command("train", "optim.lrr=1", cwd=tmp_path).stderr


def test_an_experiment_that_is_a_sweep_says_so_without_multirun(tmp_path):
    tiny = ("model.width=16", "trainer.accelerator=cpu", "trainer.fast_dev_run=true")
    done = command("train", "experiment=best", *tiny, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "a sweep over seed=0,1,2: with -m all of them" in done.stdout + done.stderr
