"""phoneme-predict: the submission of the training again, or of other data."""

import pytest
import torch

from phoneme.config import shipped
from phoneme.errors import InputError
from phoneme.runs.predict import run_predict
from tests.folders import timit11_folder
from tests.helpers import command, settings_of, train_in


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    train_in(folder, "trainer.max_epochs=1")
    return folder


def settings(run, **changes):
    return {"ckpt_path": run / "checkpoints" / "best.ckpt", "data": None, "device": "cpu", "batch_size": 999} | changes


def test_is_the_submission_of_the_training(run, tmp_path):
    path = run_predict(settings(run), tmp_path)
    assert path.read_bytes() == (run / "prediction.csv").read_bytes()


def test_from_the_command_line_with_a_sample_file(run, tmp_path):
    rows = (run / "prediction.csv").read_text().splitlines()
    (tmp_path / "sample.csv").write_text("\n".join([rows[0], *(f"{i},0" for i in range(len(rows) - 1))]))
    done = command(
        "predict",
        f"ckpt_path={run}/checkpoints/best.ckpt",
        "data=sample",
        "device=cpu",
        f"data.sample_submission={tmp_path}/sample.csv",
        f"hydra.run.dir={tmp_path}/out",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "prediction.csv").read_bytes() == (run / "prediction.csv").read_bytes()


def test_another_class_table_is_refused(run, tmp_path):
    section = settings_of(tmp_path, "data=timit11", f"data.root={timit11_folder(tmp_path / 'timit')}")["settings"][
        "data"
    ]
    with pytest.raises(InputError, match=r"the 41 classes of the checkpoint[\s\S]*got 39"):
        run_predict(settings(run, data=section), tmp_path)
    assert not (tmp_path / "prediction.csv").exists()


def test_another_feature_size_is_refused(run, tmp_path):
    content = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    content["phoneme"]["coeffs"] = 40
    content["state_dict"]["model.blocks.0.linear.weight"] = torch.zeros(32, 5 * 40)
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(InputError, match=r"expected 40 coefficients a frame, as the checkpoint has, got 39"):
        run_predict(settings(run, ckpt_path=tmp_path / "other.ckpt"), tmp_path)


def test_a_device_that_is_not_here(run, tmp_path):
    with pytest.raises(InputError, match=r"or a device that is here, got abacus"):
        run_predict(settings(run, device="abacus"), tmp_path)


def test_a_folder_without_a_test_split(run, tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    for name in ("train_split.txt", "train_labels.txt", "phones.txt"):
        (root / name).write_bytes((shipped("data/sample") / name).read_bytes())
    section = settings_of(tmp_path, f"data.root={root}")["settings"]["data"]
    with pytest.raises(InputError, match="a folder with a test split, got none"):
        run_predict(settings(run, data=section), tmp_path)
