"""phoneme-diagnose: from a checkpoint to a verdict, a page and pictures; and what it refuses."""

import json
import re
import shutil

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import phoneme
from phoneme.checkpoint import read_checkpoint
from phoneme.config import CONF, REPOSITORY, register_schemas
from phoneme.errors import InputError
from phoneme.losses import make_loss
from phoneme.runs.diagnose import _data, _noise_scale, run_diagnose
from tests.helpers import command, train_in

CHEAP = ("probe.frames=64", "probe.second=64", "spectrum=extremes", "tolerance=1e-2")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    train_in(folder, "model.norm=batch")
    return folder / "checkpoints" / "last.ckpt"


def diagnose(cwd, checkpoint, *overrides):
    return command("diagnose", f"ckpt_path={checkpoint}", "hydra.run.dir=out", *overrides, cwd=cwd)


def diagnose_here(folder, *overrides) -> list[dict]:
    """In this process; the answers as written."""
    register_schemas()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("diagnose", list(overrides))
    run_diagnose(OmegaConf.to_container(config, resolve=True), folder)
    return [json.loads(path.read_text()) for path in sorted(folder.rglob("critical_point.json"))]


def test_a_checkpoint_gets_a_verdict_a_page_and_pictures(trained, tmp_path):
    done = diagnose(tmp_path, trained, "probe.frames=128", "probe.second=64")
    assert done.returncode == 0, done.stderr
    out = tmp_path / "out"
    answer = json.loads((out / "critical_point.json").read_text())
    assert answer["verdict"] == "not_critical"
    assert answer["step"] > 0 and answer["data"]["targets"] == 128
    assert answer["minimum_ratio"]["positive"]["low"] < answer["minimum_ratio"]["positive"]["high"]
    assert answer["noise_scale"]["low"] < answer["noise_scale"]["value"] and answer["batch_size"] == 512
    assert answer["sharpness"]["optimizer"] == "AdamW" and answer["sharpness"]["lr"] == 1e-3
    assert {p.name for p in (out / "figures").glob("*.png")} == {
        *("density.png", "extremes.png", "minimum_ratio.png", "taylor.png")
    }
    page = (out / "index.html").read_text()
    assert page.count("data:image/png;base64") == 4 and "AdamW" in page
    assert "not_critical" in done.stderr and "index.html" in done.stderr


def test_the_directions_are_unit_eigenvectors_by_parameter(trained, tmp_path):
    diagnose_here(tmp_path, f"ckpt_path={trained}", *CHEAP)
    directions = torch.load(tmp_path / "directions.pt", weights_only=True)
    shapes = {name: p.shape for name, p in phoneme.load(trained).named_parameters()}
    for vectors in directions.values():
        assert {name: v.shape for name, v in vectors.items()} == shapes
        assert sum(v.square().sum() for v in vectors.values()) == pytest.approx(1, abs=1e-4)


def test_the_same_twice_and_for_some_parameters_only(trained, tmp_path):
    answers = []
    for name in "ab":
        (answer,) = diagnose_here(
            tmp_path / name, f"ckpt_path={trained}", *CHEAP, "parameters=[output.*]", "dtype=float64"
        )
        assert answer["cost"].pop("seconds") > 0
        assert answer["cost"]["parameters"] == sum(p.numel() for p in phoneme.load(trained).output.parameters())
        answers.append(answer)
    assert answers[0] == answers[1]


def test_the_course_s_checkpoints_are_answered_beside_the_truth(tmp_path):
    answers = diagnose_here(tmp_path, f"ckpt_path={REPOSITORY / 'data' / 'hw2_2' / 'checkpoints.pth'}")
    index = [[answer["homework_2_2"]["exact"][sign] for sign in ("positive", "negative", "zero")] for answer in answers]
    assert index == [[52, 50, 283]] * 4 + [[54, 48, 283]]
    for answer, (positive, negative, _) in zip(answers, index, strict=True):
        ratio = answer["minimum_ratio"]
        assert ratio["exact"]
        assert [ratio[sign]["low"] for sign in ("positive", "negative")] == [positive / 385, negative / 385]
    assert "Homework 2-2" in (tmp_path / "network-5" / "index.html").read_text()


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (("ckpt_path=nowhere.ckpt",), "a checkpoint file, got no such file"),
        (("ckpt_path={trained}", "spectrum=exakt"), "did you mean exact"),
        (("ckpt_path={trained}", "probe.frames=0"), "frames of the probe set"),
        (("ckpt_path={trained}", "parameters=[outptu.*]"), "outptu"),
        (("ckpt_path={trained}", "dtype=float16"), "float32, float64 or null"),
        (("ckpt_path={trained}", "batchnorm=off"), "eval or train"),
        (("ckpt_path={trained}", "device=tpu"), "device"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_is_written(overrides, says, trained, tmp_path):
    with pytest.raises(InputError, match=re.escape(says)):
        diagnose_here(tmp_path, *(override.format(trained=trained) for override in overrides))
    assert not list(tmp_path.iterdir())


def test_the_noise_scale_is_that_of_the_network_as_it_is(trained, tmp_path):
    (answer,) = diagnose_here(tmp_path, f"ckpt_path={trained}", *CHEAP)
    checkpoint = read_checkpoint(trained)
    model = phoneme.load(trained)
    data = _data(checkpoint, None, model, torch.device("cpu"))
    loss = make_loss(**checkpoint["phoneme"]["config"]["loss"])
    assert answer["noise_scale"] == _noise_scale(model, loss, data, 0).to_dict()
    assert answer["rate_is_initial"] is True


def test_a_checkpoint_without_the_optimizer_s_state_is_diagnosed_without_it(trained, tmp_path, caplog):
    content = torch.load(trained, weights_only=True)
    del content["optimizer_states"]
    torch.save(content, tmp_path / "bare.ckpt")
    (answer,) = diagnose_here(tmp_path / "out", f"ckpt_path={tmp_path / 'bare.ckpt'}", *CHEAP)
    assert answer["sharpness"] is None and answer["bouncing"] is None
    assert "no optimizer's state" in caplog.text


def test_a_damaged_checkpoint_is_refused(trained, tmp_path):
    broken = tmp_path / "broken.ckpt"
    shutil.copyfile(trained, broken)
    broken.write_bytes(broken.read_bytes()[:2000])
    done = diagnose(tmp_path, broken, "tolerance=1e-2")
    assert (
        done.returncode == 1
        and "it is cut off (a full disk?), damaged" in done.stderr
        and "Traceback" not in done.stderr
    )
