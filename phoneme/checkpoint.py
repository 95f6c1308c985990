"""Checkpoints: tensors and primitives only, read with `weights_only=True`, built again without a configuration."""

import logging
import sys
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import nn

from phoneme.build import build, locate
from phoneme.columns import Features
from phoneme.errors import InputError
from phoneme.files import write_tensors

log = logging.getLogger(__name__)

FORMAT = 1  # of the "phoneme" entry
PREFIX = "model."  # of the weights: the attribute of the LightningModule


def make_recipe(
    *,
    model: dict[str, Any],
    coeffs: int,
    features: dict[str, Any],
    phones: dict[str, Any],
    split: dict[str, list[str]],
    config: dict[str, Any],
) -> dict[str, Any]:
    """What is needed to build the model again and to know what it was trained on; primitives only.

    `model` is the section with its `_target_`, `features` what the columns of a frame are, `split` the utterance ids of
    both sides, `config` the whole configuration with its interpolations kept.
    """
    return {
        "format": FORMAT,
        "model": model,
        "coeffs": coeffs,
        "features": features,
        "phones": phones,
        "split": split,
        "config": config,
    }


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The content of a checkpoint written by `phoneme-train` or `phoneme-baseline`.

    Raises InputError if the file is missing, damaged, or somebody else's. Nothing in the file is executed.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise InputError(
            expected="a checkpoint file",
            got="a folder" if path.is_dir() else "no such file",
            where=path,
            hint="phoneme-train leaves them in RUN_DIR/checkpoints/{best,last}.ckpt",
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError:
        raise
    except Exception as error:  # bytes that are no pickle end in almost any
        said = next(iter(str(error).splitlines()), "")
        raise InputError(
            expected="a checkpoint of tensors and primitives",
            got=f"a file of {path.stat().st_size:,} bytes that is none ({type(error).__name__}{said and ': '}{said})",
            where=path,
            hint="it is cut off (a full disk?), damaged, or not a checkpoint of phoneme-train",
        ) from error
    recipe = content.get("phoneme") if isinstance(content, dict) else None
    if recipe is None or recipe.get("format") != FORMAT:
        raise InputError(
            expected=f"a checkpoint of phoneme-train, format {FORMAT}",
            where=path,
            got="another program's file" if recipe is None else f"format {recipe.get('format')}",
            hint="use the version of phoneme that wrote it",
        )
    return content


def write_checkpoint(
    path: Path, model: nn.Module, recipe: dict[str, Any], *, step: int, history: list[dict[str, int | float]]
) -> Path:
    """Save a model that no trainer has trained, for all that reads checkpoints but a training that continues.

    `step` counts what was done to its weights, `history` has an entry an epoch, if there were epochs.
    """
    weights = {f"{PREFIX}{name}": value.cpu() for name, value in model.state_dict().items()}
    return write_tensors(path, {"phoneme": recipe, "state_dict": weights, "global_step": step, "history": history})


def load(path: str | Path, device: str | torch.device = "cpu") -> nn.Module:
    """The trained model of a checkpoint, in evaluation mode on `device`; no configuration is needed.

    A model class outside this package has to be imported by the caller first: a file names no code to import.
    """
    return model_of(read_checkpoint(path), path).to(device)


def model_of(checkpoint: dict[str, Any], path: str | Path) -> nn.Module:
    """Build the model of a checkpoint that was read from `path`, with its weights, in evaluation mode."""
    recipe = checkpoint["phoneme"]
    module = recipe["model"]["_target_"].rpartition(".")[0]
    if module not in sys.modules and not f"{module}.".startswith("phoneme.models."):
        raise InputError(
            expected="a model of phoneme.models",
            got=recipe["model"]["_target_"],
            where=path,
            hint=f"if you trust the file, `import {module}` before loading it",
        )
    factory = locate(recipe["model"]["_target_"], "model")
    if not (isinstance(factory, type) and issubclass(factory, nn.Module)):
        raise InputError(
            expected="a class of torch.nn.Module",
            got=recipe["model"]["_target_"],
            where=path,
            hint="the file is not a checkpoint of phoneme-train: do not trust it",
        )
    model = build(recipe["model"], "model", coeffs=recipe["coeffs"], classes=len(recipe["phones"]["phones"]))
    weights = {k.removeprefix(PREFIX): v for k, v in checkpoint["state_dict"].items() if k.startswith(PREFIX)}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(
            expected="weights that fit the network which the file describes",
            got=str(error).splitlines()[-1].strip(),
            where=path,
            hint="the file was changed, or written by a version of phoneme whose model of this name is another",
        ) from error
    return model.eval()


def features_of(checkpoint: dict[str, Any]) -> Features:
    """What the columns of a frame are that the model of a checkpoint reads; before there was a choice, the course's."""
    return Features.from_dict(checkpoint["phoneme"].get("features", {}))


def check_resumable(checkpoint: dict[str, Any], recipe: dict[str, Any], path: str | Path) -> None:
    """Raise InputError if training with `recipe` cannot continue from `checkpoint`.

    It has another model or other features, or no optimizer's state.
    """
    if "optimizer_states" not in checkpoint:
        raise InputError(
            expected="a checkpoint of phoneme-train, with the state of its optimizer",
            got="one without: of phoneme-baseline",
            where=f"ckpt_path={path}",
            hint="predict and diagnose with it; a training starts from its own last.ckpt, or anew",
        )
    saved = checkpoint["phoneme"]
    before, now = (
        part["model"]
        | {"coeffs": part["coeffs"], "classes": len(part["phones"]["phones"])}
        | {"features": str(features_of({"phoneme": part}))}
        for part in (saved, recipe)
    )
    changed = sorted(key for key in before | now if before.get(key) != now.get(key))
    if changed:
        raise InputError(
            expected=", ".join(f"{key}={before.get(key)}" for key in changed) + ", as in the checkpoint",
            got=", ".join(f"{key}={now.get(key)}" for key in changed),
            where=f"ckpt_path={path}",
            hint="continue with the settings of that run: its .hydra/overrides.yaml lists them",
        )
    before, now = saved["config"]["optim"]["name"], recipe["config"]["optim"]["name"]
    if before != now:
        raise InputError(
            expected=f"optim={before}, whose state is in the checkpoint",
            got=f"optim={now}",
            where=f"ckpt_path={path}",
            hint="an optimizer cannot go on from the state of another: train anew",
        )
    if saved["config"]["optim"] != recipe["config"]["optim"]:
        log.warning(
            "the optimizer continues as in the checkpoint: %s; optim.… of this run has no effect",
            saved["config"]["optim"],
        )


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write beside the target, then rename: a kill or a full disk leaves the previous checkpoint whole."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        write_tensors(Path(path), checkpoint)
