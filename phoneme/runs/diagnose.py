"""Where on the error surface a trained network is: `critical_point.json`, pictures, and a page in plain words."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from phoneme.checkpoint import model_of, read_checkpoint
from phoneme.curvature import CriticalPoint, analyse
from phoneme.curvature.homework22_files import Checkpoint, load_checkpoints
from phoneme.curvature.objective import Objective
from phoneme.curvature.sharpness import bouncing, sharpness
from phoneme.datamodule import PhonemeData
from phoneme.errors import InputError
from phoneme.gradients import LEAST_REPEATS, NoiseScale, noise_scale_of_batches
from phoneme.losses import make_loss
from phoneme.optim import make_optimizer
from phoneme.report import summary_lines
from phoneme.runs.data import open_train
from phoneme.runs.device import pick_device
from phoneme.runs.surface import leave_critical_point
from phoneme.splits import Split, split_ids
from phoneme.store import FrameStore

log = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "float64": torch.float64}
SMALL_BATCH, NOISE_PARTS, NOISE_REPEATS = 64, 4, 20  # frames, small batches in a big one, pairs: 5,120 frames
PASSED_ON = (
    *("spectrum", "parameters", "batchnorm", "weight_decay"),
    *("tolerance", "gradient_tolerance", "max_products", "seed"),
)


def run_diagnose(settings: dict[str, Any], folder: Path) -> list[CriticalPoint]:
    """Diagnose the network of a checkpoint, or each one in a file of homework 2-2; their files go to `folder`."""
    options = {name: settings[name] for name in PASSED_ON} | {"dtype": _dtype(settings["dtype"]), "progress": True}
    path = Path(settings["ckpt_path"]).expanduser()
    try:
        checkpoint = read_checkpoint(path)
    except InputError as error:
        return [
            _homework_network(network, options, folder / f"network-{number}", f"{path.name}, network {number}")
            for number, network in enumerate(_homework(path, error), start=1)
        ]
    return [_trained_network(checkpoint, path, settings, options, folder)]


def _trained_network(
    checkpoint: dict[str, Any], path: Path, settings: dict[str, Any], options: dict[str, Any], folder: Path
) -> CriticalPoint:
    device, sizes = pick_device(settings["device"]), settings["probe"]
    config = OmegaConf.to_container(OmegaConf.create(checkpoint["phoneme"]["config"]), resolve=False)
    model, loss = model_of(checkpoint, path).to(device), make_loss(**config["loss"])
    data = _data(checkpoint, settings["data"], model, device)
    rest = {"batch_size": sizes["batch_size"], "seed": settings["seed"]}
    batches = data.probe(data.split.train, sizes["frames"], **rest)
    second = data.probe(data.split.val, sizes["second"], **rest) if data.split.val else None
    log.info(
        "%s: update %d, %s of %s", path.name, checkpoint["global_step"], config["loss"]["name"], _what(batches, data)
    )
    answer = analyse(model, loss, batches, second=second, **options)
    objective = Objective(model, loss, batches, options["parameters"])
    answer = replace(answer, **_of_the_optimizer(checkpoint, config["optim"], model, objective))
    about = f"{path.name}: {type(model).__name__} after {checkpoint['global_step']} updates, {_what(batches, data)}."
    noise = _noise_scale(model, loss, data, settings["seed"])
    when = {"step": checkpoint["global_step"], "epoch": checkpoint["epoch"]}
    size = config["data"]["batch_size" if model.unit == "frame" else "batch_frames"]
    _leave(answer, model, folder, about, **when, batch_size=size, noise_scale=noise.to_dict() if noise else None)
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
    store = open_train(section or own)
    _check_fit(store, checkpoint["phoneme"])
    if section is None:
        split = Split(**{side: tuple(ids) for side, ids in checkpoint["phoneme"]["split"].items()})
    else:
        split = split_ids(store.ids, store.speakers, **section["split"])
    data = PhonemeData(store, split, unit=model.unit, context=getattr(model, "context", 1))
    data.place(device)
    return data


def _check_fit(store: FrameStore, recipe: dict[str, Any]) -> None:
    for what, expected, got in (
        ("coefficients a frame", recipe["coeffs"], store.coeffs),
        ("classes", tuple(recipe["phones"]["phones"]), store.phones.phones),
    ):
        if got != expected:
            raise InputError(
                expected=f"{what} as the checkpoint has: {expected}",
                got=got,
                where="data.root",
                hint="diagnose on data made like those of the training",
            )


def _of_the_optimizer(
    checkpoint: dict[str, Any], optim: dict[str, Any], model: nn.Module, objective: Objective
) -> dict[str, Any]:
    """The sharpness against the optimizer's threshold, and whether its next update, on the probe set, would bounce."""
    optimizer = make_optimizer(model.parameters(), **optim)
    optimizer.load_state_dict(checkpoint["optimizer_states"][0])
    for group in optimizer.param_groups:
        if not group["lr"]:
            log.info("the schedule has brought the learning rate to 0: the surface is held against optim.lr instead")
            group["lr"] = optim["lr"]
    try:
        found = {"sharpness": sharpness(objective, optimizer)}
    except InputError as error:
        log.warning("no sharpness: %s", error)
        return {}
    own = dict(model.named_parameters())
    names, split = objective.selection.names, objective.selection.split
    for name, part in zip(names, split(objective.gradient()), strict=True):
        own[name].grad = part
    optimizer.step()
    after = objective.selection.flatten([own[name].detach() for name in names])
    found["bouncing"] = bouncing(objective.to(torch.float64), objective.point.double(), after.double())
    return found


def _homework(path: Path, error: InputError) -> list[Checkpoint]:
    """The networks of a homework 2-2 file; `error`, why the file is no checkpoint, if it is none of those either."""
    try:
        return load_checkpoints(path)
    except InputError:
        raise error from None


def _homework_network(network: Checkpoint, options: dict[str, Any], folder: Path, about: str) -> CriticalPoint:
    answer = analyse(network.model, nn.MSELoss(), [(network.inputs, network.targets)], **options)
    _leave(answer, network.model, folder, f"{about}: six points of sin(5 pi x) / (5 pi x).")
    return answer


def _leave(answer: CriticalPoint, model: nn.Module, folder: Path, about: str, **extra: Any) -> None:
    leave_critical_point(answer, model, folder, about=about, extra=extra)
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
