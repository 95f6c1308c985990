"""A whole training on the bundled speech: what it leaves, that it can be repeated, continued and loaded."""

import json

import pytest
import torch

import phoneme
from phoneme.checkpoint import read_checkpoint
from phoneme.config import shipped
from phoneme.errors import DivergedError, InputError
from tests.helpers import TINY, command, metrics, train_in

TEST_FRAMES = 10_638


def weights(folder, name="last"):
    return read_checkpoint(folder / "checkpoints" / f"{name}.ckpt")["state_dict"]


def same_bits(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One short training that several tests look at."""
    folder = tmp_path_factory.mktemp("run")
    return train_in(folder), folder


def test_leaves_its_files(run):
    summary, folder = run
    assert {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} == {
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "figures/confusion_matrix.png",
        "figures/learning_curves.png",
        "hparams.yaml",
        "metrics.csv",
        "prediction.csv",
        "summary.json",
    }
    assert json.loads((folder / "summary.json").read_text()) == summary


def test_summary(run):
    summary, _ = run
    assert summary["val_accuracy"] > 0.3  # silence alone: 0.18
    assert summary["epochs"] == 2 and summary["best_checkpoint"] == "checkpoints/best.ckpt"
    assert summary["parameters"] == 5 * 39 * 32 + 32 * 32 + 2 * 3 * 32 + 32 * 41 + 41
    for key in ("val_loss", "train_accuracy", "train_loss", "train_frames_per_second", "peak_memory_gib"):
        assert summary[key] > 0
    assert summary["versions"]["torch"] == torch.__version__.split("+")[0]


def test_the_submission_has_a_row_for_each_test_frame(run):
    _, folder = run
    header, *lines = (folder / "prediction.csv").read_text().splitlines()
    assert header == "Id,Class"
    assert [line.split(",")[0] for line in lines] == [str(i) for i in range(TEST_FRAMES)]


def test_the_submission_is_what_the_loaded_model_says(run):
    _, folder = run
    model = phoneme.load(folder / "checkpoints" / "best.ckpt")
    assert not model.training
    root = shipped("data/sample")
    first = (root / "test_split.txt").read_text().split()[0]
    frames = torch.load(root / "feat" / "test" / f"{first}.pt", weights_only=True)
    rows = torch.arange(len(frames))[:, None] + torch.arange(-2, 3)
    with torch.no_grad():
        expected = model(frames[rows.clamp(0, len(frames) - 1)]).argmax(-1)
    lines = (folder / "prediction.csv").read_text().splitlines()[1 : len(frames) + 1]
    assert [int(line.split(",")[1]) for line in lines] == expected.tolist()


def test_the_same_command_gives_the_same_bits(run, tmp_path):
    _, folder = run
    train_in(tmp_path)
    assert same_bits(weights(folder), weights(tmp_path)) and metrics(folder) == metrics(tmp_path)
    assert (folder / "prediction.csv").read_bytes() == (tmp_path / "prediction.csv").read_bytes()


def test_another_seed_gives_another_network_on_the_same_split(run, tmp_path):
    _, folder = run
    train_in(tmp_path, "seed=1", "trainer.max_epochs=1")
    assert not same_bits(weights(folder), weights(tmp_path))
    splits = [read_checkpoint(f / "checkpoints" / "last.ckpt")["phoneme"]["split"] for f in (folder, tmp_path)]
    assert splits[0] == splits[1]


PLUG = "+callbacks.plug={_target_: tests.helpers.PullThePlug, step: %d}"
WHOLE = ("model.dropout=0.5", "trainer.max_epochs=3")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    train_in(folder, *WHOLE)
    return folder


@pytest.mark.parametrize(
    ("every", "continues_from"),
    [
        ("null", 63),  # the end of epoch 1
        ("45", 90),  # the middle of epoch 2
        ("63", 63),  # would be an epoch's last update: its end is kept instead
    ],
)
def test_a_resumed_training_is_bitwise_the_uninterrupted_one(uninterrupted, tmp_path, every, continues_from):
    checkpointing = (f"callbacks.last_checkpoint.every_n_train_steps={every}",)
    with pytest.raises(RuntimeError, match="the plug was pulled"):
        train_in(tmp_path / "first", *WHOLE, *checkpointing, PLUG % 100)
    last = tmp_path / "first" / "checkpoints" / "last.ckpt"
    resumed_at = read_checkpoint(last)["global_step"]
    assert resumed_at == continues_from
    train_in(tmp_path / "second", *WHOLE, *checkpointing, f"ckpt_path={last}")
    after = [row for row in metrics(uninterrupted) if int(row["step"]) >= resumed_at]
    assert metrics(tmp_path / "second") == after and len(after) > 10
    assert same_bits(weights(uninterrupted, "best"), weights(tmp_path / "second", "best"))
    folders = (uninterrupted, tmp_path / "second")
    histories = [read_checkpoint(folder / "checkpoints" / "last.ckpt")["history"] for folder in folders]
    assert histories[0] == histories[1] and len(histories[0]) == 3
    assert (uninterrupted / "prediction.csv").read_bytes() == (tmp_path / "second" / "prediction.csv").read_bytes()


@pytest.mark.parametrize("optim", ["lars", "lamb"])
def test_optimizers_that_are_not_torchs_resume_bitwise_too(optim, tmp_path):
    train_in(tmp_path / "whole", f"optim={optim}")
    with pytest.raises(RuntimeError, match="the plug was pulled"):
        train_in(tmp_path / "first", f"optim={optim}", PLUG % 70)
    last = tmp_path / "first" / "checkpoints" / "last.ckpt"
    train_in(tmp_path / "second", f"optim={optim}", f"ckpt_path={last}")
    assert same_bits(weights(tmp_path / "whole"), weights(tmp_path / "second"))


def test_the_best_checkpoint_moves_along_when_a_training_continues(run, tmp_path):
    _, folder = run
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    for state in content["callbacks"].values():
        if "best_model_score" in state:
            state["best_model_score"] = torch.tensor(0.99)  # what is to come cannot beat it
    last = tmp_path / "last.ckpt"
    torch.save(content, last)
    summary = train_in(tmp_path / "second", "trainer.max_epochs=3", f"ckpt_path={last}")
    assert same_bits(weights(folder, "best"), weights(tmp_path / "second", "best"))
    assert not same_bits(weights(folder), weights(tmp_path / "second"))
    assert summary["best_checkpoint"] == "checkpoints/best.ckpt"


def test_the_history_survives_a_resume(run, tmp_path):
    _, folder = run
    train_in(tmp_path, "trainer.max_epochs=3", f"ckpt_path={folder / 'checkpoints' / 'last.ckpt'}")
    history = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["history"]
    assert [row["epoch"] for row in history] == [0, 1, 2]
    assert all({"train/loss", "train/accuracy", "val/loss", "val/accuracy"} <= row.keys() for row in history)


def test_a_checkpoint_of_another_network_is_refused(run, tmp_path):
    _, folder = run
    with pytest.raises(InputError, match=r"expected width=32, as in the checkpoint, got width=64\n  where: ckpt_path="):
        train_in(tmp_path, "model.width=64", f"ckpt_path={folder / 'checkpoints' / 'last.ckpt'}")


def test_a_loss_that_is_not_finite_ends_the_training_and_keeps_the_checkpoint(tmp_path):
    with pytest.raises(DivergedError, match=r"expected a finite loss, got (nan|inf)[\s\S]*smaller optim.lr"):
        train_in(tmp_path, "optim=sgd", "optim.lr=1e30", "model.norm=none")
    assert not (tmp_path / "checkpoints" / "last.ckpt").exists()
    assert not (tmp_path / "summary.json").exists()


@pytest.mark.parametrize(
    "override",
    [
        "callbacks=none",
        "logger=none",
        "trainer.fast_dev_run=true",
        "trainer.precision=bf16-mixed",
        "trainer.precision=bf16-mixed trainer.gradient_clip_val=1",
        "model.norm=layer",
        "loss=mse",
        "data.split.by=speaker",
        "data.split.folds=5",
        "data.dtype=float16",
        "optim=momentum",
        "schedule=step",
        "trainer.accumulate_grad_batches=2",
        "trainer.max_steps=70",
        "trainer.limit_train_batches=20",
        "trainer.check_val_every_n_epoch=2",
        "callbacks.early_stopping=null",
    ],
)
def test_settings_work_together(tmp_path, override):
    summary = train_in(tmp_path, *override.split())
    assert summary["val_frames"] > 0 and (tmp_path / "prediction.csv").exists()
    assert (tmp_path / "metrics.csv").exists() == (override not in ("logger=none", "trainer.fast_dev_run=true"))
    assert (tmp_path / "checkpoints").exists() == (override not in ("callbacks=none", "trainer.fast_dev_run=true"))


def test_compiled_training(tmp_path):
    done = command(
        "train",
        *TINY,
        "compile=true",
        "trainer.max_epochs=1",
        "trainer.limit_train_batches=10",
        f"hydra.run.dir={tmp_path}",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert isinstance(phoneme.load(tmp_path / "checkpoints" / "best.ckpt"), torch.nn.Module)


def test_another_optimizer_than_that_of_the_checkpoint(run, tmp_path):
    _, folder = run
    with pytest.raises(InputError, match=r"expected optim=adamw, whose state[\s\S]*got optim=sgd[\s\S]*train anew"):
        train_in(tmp_path, "optim=sgd", "trainer.max_epochs=3", f"ckpt_path={folder / 'checkpoints' / 'last.ckpt'}")


def test_optimizer_settings_without_effect_are_said(run, tmp_path, caplog):
    _, folder = run
    train_in(tmp_path, "optim.lr=0.5", "trainer.max_epochs=3", f"ckpt_path={folder / 'checkpoints' / 'last.ckpt'}")
    assert "optim.… of this run has no effect" in caplog.text
    rate = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["optimizer_states"][0]["param_groups"][0][
        "initial_lr"
    ]
    assert rate == 1e-3


def test_a_checkpoint_of_another_feature_size_is_refused(run, tmp_path):
    _, folder = run
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    content["phoneme"]["coeffs"] = 40
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(InputError, match=r"expected coeffs=40, as in the checkpoint, got coeffs=39"):
        train_in(tmp_path / "run", f"ckpt_path={tmp_path / 'other.ckpt'}")


def test_the_last_checkpoint_is_the_last(tmp_path):
    train_in(tmp_path, "trainer.max_epochs=3", "trainer.check_val_every_n_epoch=2")
    last = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    assert last["global_step"] == 3 * 63 and len(last["history"]) == 3
    assert ["val/loss" in row for row in last["history"]] == [False, True, False]


def test_overfitting_a_few_batches_sees_the_same_ones(tmp_path):
    summary = train_in(
        tmp_path,
        "trainer.overfit_batches=2",
        "trainer.max_epochs=60",
        "model.width=256",
        "model.dropout=0",
        "callbacks=none",
        "trainer.log_every_n_steps=2",
    )
    accuracies = [float(row["train/accuracy"]) for row in metrics(tmp_path) if "train/accuracy" in row]
    assert summary["epochs"] == 60 and accuracies[-1] > 0.98


def test_a_finished_training_has_nothing_to_do_and_says_so(run, tmp_path, caplog):
    _, folder = run
    train_in(tmp_path, f"ckpt_path={folder / 'checkpoints' / 'last.ckpt'}")
    assert "nothing to train" in caplog.text


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "trainer.precision=64-true",
            r"auto or 32-true or bf16-mixed or 16-mixed, got 64-true\n  where: trainer.precision",
        ),
        ("data.train_score_share=0", r"a share in \(0, 1\], got 0"),
        ("seed=-1", r"a seed from 0 to 2\^32 - 1, got -1"),
        ("logger.wandb.projct=x", r"did you mean project\?"),
    ],
)
def test_values_that_cannot_be(tmp_path, override, message):
    extra = ("logger=wandb_offline", f"+{override}") if "wandb" in override else (override,)
    with pytest.raises(InputError, match=message):
        train_in(tmp_path, *extra)
