"""A checkpoint is data: whatever stands in the file, nothing of it is run."""

import pytest
import torch
from torch import nn

import phoneme
from phoneme.checkpoint import FORMAT, AtomicCheckpointIO, read_checkpoint
from phoneme.errors import InputError
from phoneme.models import Mlp

SIZES = {"context": 3, "depth": 1, "width": 4}


def saved(path, model=None, **changes):
    """A checkpoint file as a training leaves it, with `changes` to its recipe."""
    network = Mlp(coeffs=2, classes=3, **SIZES)
    recipe = {
        "format": FORMAT,
        "model": model or {"_target_": "phoneme.models.Mlp", **SIZES},
        "coeffs": 2,
        "phones": {"phones": ["a", "b", "c"]},
    }
    weights = {f"model.{name}": value for name, value in network.state_dict().items()}
    torch.save({"phoneme": recipe | changes, "state_dict": weights}, path)
    return network.eval()


def test_load_gives_the_same_function(tmp_path):
    network = saved(tmp_path / "a.ckpt")
    windows = torch.randn(5, 3, 2)
    loaded = phoneme.load(tmp_path / "a.ckpt")
    assert not loaded.training and torch.equal(loaded(windows), network(windows))


def test_a_file_cannot_call_a_function(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    call = {"_target_": "logging.basicConfig", "filename": str(victim), "filemode": "w", "force": True}
    saved(tmp_path / "evil.ckpt", model=call)
    with pytest.raises(InputError, match=r"a class of torch.nn.Module, got logging.basicConfig"):
        phoneme.load(tmp_path / "evil.ckpt")
    assert victim.read_text() == "precious"


def test_a_file_cannot_import_a_module(tmp_path):
    saved(tmp_path / "evil.ckpt", model={"_target_": "antigravity.Net"})
    with pytest.raises(InputError, match=r"a model of phoneme.models, got antigravity.Net[\s\S]*import antigravity"):
        phoneme.load(tmp_path / "evil.ckpt")


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return print, ("it ran",)

    torch.save({"phoneme": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(InputError, match="a checkpoint of tensors and primitives"):
        read_checkpoint(tmp_path / "evil.ckpt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"state_dict": {}}, "got another program's file"),
        ({"phoneme": {"format": 99}}, "got format 99"),
        (torch.zeros(3), "got another program's file"),
    ],
)
def test_somebody_elses_file(tmp_path, content, message):
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(InputError, match=message):
        read_checkpoint(tmp_path / "other.ckpt")


@pytest.mark.parametrize("kept", [0.5, 0.0], ids=["half", "empty"])
def test_a_truncated_file(kept, tmp_path):
    saved(tmp_path / "a.ckpt")
    whole = (tmp_path / "a.ckpt").read_bytes()
    (tmp_path / "a.ckpt").write_bytes(whole[: int(kept * len(whole))])
    size = f"{int(kept * len(whole)):,} bytes"
    with pytest.raises(InputError, match=rf"got a file of {size} that is none[\s\S]*it is cut off"):
        read_checkpoint(tmp_path / "a.ckpt")


def test_a_text_file_and_a_folder(tmp_path):
    (tmp_path / "notes.txt").write_text("epoch 1: fine")
    with pytest.raises(InputError, match="got a file of 13 bytes that is none"):
        read_checkpoint(tmp_path / "notes.txt")
    with pytest.raises(InputError, match=r"got a folder[\s\S]*RUN_DIR/checkpoints"):
        read_checkpoint(tmp_path)


def test_weights_that_do_not_fit(tmp_path):
    saved(tmp_path / "a.ckpt", coeffs=3)
    with pytest.raises(InputError, match=r"got size mismatch for blocks.0.linear.weight[\s\S]*where: .*a.ckpt"):
        phoneme.load(tmp_path / "a.ckpt")


def test_a_failed_write_leaves_the_previous_checkpoint(tmp_path):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": 1}, path)
    with pytest.raises(Exception, match="pickle"):
        AtomicCheckpointIO().save_checkpoint({"step": nn.ReLU, "bad": lambda: 0}, path)
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]
