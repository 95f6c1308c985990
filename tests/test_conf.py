"""Every shipped YAML file composes, and every choice of a group trains a batch."""

import pytest

from phoneme.config import CONF
from tests.folders import audio_folder
from tests.helpers import TINY_SEQUENCE, baseline_in, train_in

GROUPS = (
    "features",
    "augment",
    "model",
    "loss",
    "optim",
    "schedule",
    "callbacks",
    "callbacks/averaging",
    "logger",
    "trainer",
    "experiment",
)
UTTERANCES = ("model=gru", "model=lstm", "model=tcn", "model=conformer")
FEWER = {  # of what a recipe computes for minutes, so that its test takes seconds
    "experiment=peer_bilstm": ("model.width=8", "model.depth=1", "model.context=5"),
    "experiment=peer_bigru": ("model.width=16", "data.batch_utterances=2"),
}
CHOICES = [f"{group}={path.stem}" for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]


@pytest.mark.parametrize("choice", [c for c in CHOICES if not c.startswith("experiment=") and c != "logger=wandb"])
def test_every_choice_trains_a_batch(choice, tmp_path):
    sizes = TINY_SEQUENCE if choice in UTTERANCES else ()
    if choice.startswith("features=logmel"):
        sizes = ("data=audio", f"data.root={audio_folder(tmp_path / 'audio')}")
    tiny = choice not in ("model=linear", *UTTERANCES)
    summary = train_in(tmp_path, choice, *sizes, "trainer.fast_dev_run=true", tiny=tiny)
    assert summary["epochs"] == 1


@pytest.mark.parametrize("data", ["sample", "accented"])
def test_the_bundled_speech_trains_a_batch(data, tmp_path):
    assert train_in(tmp_path, f"data={data}", "trainer.fast_dev_run=true")["epochs"] == 1


@pytest.mark.parametrize("choice", [c for c in CHOICES if c.startswith("experiment=")])
def test_every_recipe_trains_a_batch_as_it_is(choice, tmp_path):
    summary = train_in(tmp_path, choice, *FEWER.get(choice, ()), "trainer.fast_dev_run=true", tiny=False)
    assert summary["parameters"] > 0


@pytest.mark.parametrize("choice", sorted(path.stem for path in (CONF / "baseline").glob("*.yaml")))
def test_every_baseline_is_fitted(choice, tmp_path):
    summary = baseline_in(tmp_path, f"baseline={choice}", "context=1", "baseline.max_iter=30")
    assert summary["baseline"] == choice and summary["val_accuracy"] > 0.3


def test_every_value_carries_a_comment():
    """A key without one makes the reader look elsewhere for what it means."""
    silent = []
    for path in sorted(CONF.rglob("*.yaml")):
        if path.parent.name in ("job_logging", "help", "experiment"):
            continue
        lines = path.read_text().splitlines()
        for line in lines:
            key, colon, value = line.strip().partition(":")
            is_value = colon and value.strip() and not key.startswith(("#", "-"))
            if is_value and "#" not in line and key not in ("_target_", "name", "root", "save_dir", "version"):
                silent.append(f"{path.relative_to(CONF)}: {key}")
    assert not silent
