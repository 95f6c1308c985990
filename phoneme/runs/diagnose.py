"""Where on the error surface a trained network is: `critical_point.json`, pictures, and a page in plain words."""

import logging
from collections.abc import Callable
from copy import deepcopy
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from phoneme.checkpoint import features_of, model_of, read_checkpoint
from phoneme.curvature import CriticalPoint, analyse
from phoneme.curvature.homework22_files import Checkpoint, load_checkpoints
from phoneme.curvature.objective import Objective
from phoneme.curvature.settings import Settings
from phoneme.curvature.steps import of_the_optimizer
from phoneme.datamodule import PhonemeData
from phoneme.errors import InputError
from phoneme.gradients import LEAST_REPEATS, NoiseScale, noise_scale_of_batches
from phoneme.losses import make_loss
from phoneme.optim import make_optimizer
from phoneme.report import summary_lines
from phoneme.runs.data import check_fit, open_train
from phoneme.runs.device import pick_device
from phoneme.runs.surface import leave_critical_point
from phoneme.splits import Split, split_ids

log = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "float64": torch.float64}
SMALL_BATCH, NOISE_PARTS, NOISE_REPEATS = 64, 4, 20  # frames, small batches in a big one, pairs: 5,120 frames
PASSED_ON = (
    *("spectrum", "parameters", "batchnorm", "weight_decay"),
    *("tolerance", "gradient_tolerance", "max_products", "seed"),
)


def run_diagnose(settings: dict[str, Any], folder: Path) -> list[CriticalPoint]:
    """Diagnose the network of a checkpoint, or each one in a file of homework 2-2; their files go to `folder`."""
    options = {name: settings[name] for name in PASSED_ON} | {"dtype": _dtype(settings["dtype"])}
    Settings(**{field.name: options[field.name] for field in fields(Settings) if field.name in options})
    device, path = pick_device(settings["device"]), Path(settings["ckpt_path"]).expanduser()
    try:
        checkpoint = read_checkpoint(path)
    except InputError as error:
        return [
            _homework_network(network, device, options, folder / f"network-{number}", f"{path.name}, network {number}")
            for number, network in enumerate(_homework(path, error), start=1)
        ]
    return [_trained_network(checkpoint, path, device, settings, options, folder)]


def _trained_network(
    checkpoint: dict[str, Any],
    path: Path,
    device: torch.device,
    settings: dict[str, Any],
    options: dict[str, Any],
    folder: Path,
) -> CriticalPoint:
    config, sizes = checkpoint["phoneme"]["config"], settings["probe"]
    model, loss = model_of(checkpoint, path).to(device), make_loss(**config["loss"])
    data = _data(checkpoint, settings["data"], model, device)
    rest = {"batch_size": sizes["batch_size"], "seed": settings["seed"]}
    batches = data.probe(data.split.train, sizes["frames"], **rest)
    second = data.probe(data.split.val, sizes["second"], **rest) if data.split.val else None
    step, what = checkpoint["global_step"], _what(batches, data)
    log.info("%s: update %d, %s of %s", path.name, step, config["loss"]["name"], what)
    answer = analyse(model, loss, batches, second=second, progress=True, **options)
    noise = _noise_scale(model, loss, data, settings["seed"])
    objective = Objective(model, loss, batches, options["parameters"])
    found, initial = _of_the_optimizer(checkpoint, config.get("optim"), model, objective)
    extra = {
        "step": step,
        "batch_size": config["data"]["batch_size" if model.unit == "frame" else "batch_frames"],
        "noise_scale": noise.to_dict() if noise else None,
        "rate_is_initial": initial,
    }
    answer = replace(answer, **found)
    about = f"{path.name}: {type(model).__name__} after {step} updates, {what}."
    _leave(answer, model, folder, about, extra)
    return answer


def _noise_scale(
    model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], data: PhonemeData, seed: int
) -> NoiseScale | None:
    """Of the training frames, in evaluation mode, from small batches and from four of them together."""
    if data.unit != "frame":
        log.info("no gradient noise scale: batches of whole utterances have no one size")
        return None
    big = SMALL_BATCH * NOISE_PARTS
    repeats = min(NOISE_REPEATS, len(data.store.frame_indices(data.store.rows_of(data.split.train))) // big)
    if repeats < LEAST_REPEATS:
        log.info("no gradient noise scale: fewer than %d training frames", LEAST_REPEATS * big)
        return None
    pairs = data.probe(data.split.train, repeats * big, SMALL_BATCH, seed)
    return noise_scale_of_batches(model, loss, [(inputs[0], targets) for inputs, targets in pairs], parts=NOISE_PARTS)


def _data(
    checkpoint: dict[str, Any], section: dict[str, Any] | None, model: nn.Module, device: torch.device
) -> PhonemeData:
    """The frames the checkpoint was trained on, split as then; or those of another data section, split as it says."""
    own = OmegaConf.to_container(OmegaConf.create(checkpoint["phoneme"]["config"]["data"]), resolve=True)
    store = open_train(section or own, features_of(checkpoint))
    recipe = checkpoint["phoneme"]
    check_fit(store, recipe["coeffs"], tuple(recipe["phones"]["phones"]))
    if section is None:
        split = Split(**{side: tuple(ids) for side, ids in checkpoint["phoneme"]["split"].items()})
    else:
        split = split_ids(store.ids, store.speakers, copies=store.copies, **section["split"])
    data = PhonemeData(store, split, unit=model.unit, context=getattr(model, "context", 1))
    data.place(device)
    return data


def _of_the_optimizer(
    checkpoint: dict[str, Any], optim: dict[str, Any] | None, model: nn.Module, objective: Objective
) -> tuple[dict[str, Any], bool]:
    """Sharpness, and whether the optimizer's next update, on the probe set, would bounce; and whether for `optim.lr`.

    A schedule that ends at 0 leaves no rate to speak of: then it is the one it began with.
    """
    if not checkpoint.get("optimizer_states"):
        log.warning("no sharpness: the checkpoint has no optimizer's state")
        return {}, False
    copied = deepcopy(model)
    optimizer = make_optimizer(copied.parameters(), **optim)
    optimizer.load_state_dict(checkpoint["optimizer_states"][0])
    initial = not optimizer.param_groups[0]["lr"]
    for group in optimizer.param_groups:
        group["lr"] = optim["lr"] if initial else group["lr"]
    own = dict(copied.named_parameters())
    names, split = objective.selection.names, objective.selection.split
    for name, part in zip(names, split(objective.gradient()), strict=True):
        own[name].grad = part
    surface = Objective(copied, objective.loss, [(b.inputs, b.targets) for b in objective.batches], list(names))
    before = surface.point
    state = deepcopy(optimizer.state_dict())
    optimizer.step()
    after = surface.selection.flatten([own[name].detach() for name in names])
    optimizer.load_state_dict(state)
    return of_the_optimizer(surface, optimizer, before=before, after=after), initial


def _homework(path: Path, error: InputError) -> list[Checkpoint]:
    """The networks of a homework 2-2 file; `error`, why the file is no checkpoint, if it is none of those either."""
    try:
        return load_checkpoints(path)
    except InputError:
        raise error from None


def _homework_network(
    network: Checkpoint, device: torch.device, options: dict[str, Any], folder: Path, about: str
) -> CriticalPoint:
    model = network.model.to(device)
    answer = analyse(model, nn.MSELoss(), [(network.inputs, network.targets)], **options)
    _leave(answer, model, folder, f"{about}: six points of sin(5 pi x) / (5 pi x).", {})
    return answer


def _leave(answer: CriticalPoint, model: nn.Module, folder: Path, about: str, extra: dict[str, Any]) -> None:
    leave_critical_point(answer, model, folder, about=about, extra=extra)
    log.info("%s", about)
    for line in summary_lines(answer.to_dict()):
        log.info("%s", line)
    log.info("page: %s", folder / "index.html")


def _what(batches: list[Any], data: PhonemeData) -> str:
    frames = sum(int((targets >= 0).sum()) for _, targets in batches)
    return f"{frames} frames of {len(data.split.train)} training utterances"


def _dtype(name: str | None) -> torch.dtype | None:
    if name is None or name in DTYPES:
        return DTYPES.get(name)
    raise InputError(
        expected="float32, float64 or null",
        got=name,
        where="dtype",
        hint="float64 sees curvatures near 0, at twice the time",
    )
