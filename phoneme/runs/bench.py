"""From settings to the bench of an experiment: speech, a network, or the user's own."""

import logging
from pathlib import Path
from typing import Any

import torch

from phoneme.checkpoint import features_of, model_of, read_checkpoint
from phoneme.columns import Features
from phoneme.datamodule import PhonemeData
from phoneme.lab import Bench, Own, Speech
from phoneme.losses import make_loss
from phoneme.runs.data import check_fit, open_train
from phoneme.runs.device import pick_device
from phoneme.splits import Split, split_ids

log = logging.getLogger(__name__)

SEEDS = {"quick": 5, "full": 10}


def number_of_seeds(lab: dict[str, Any]) -> int:
    """What is asked for, or the default of the budget."""
    return lab["seeds"] or SEEDS[lab["budget"]]


def make_bench(settings: dict[str, Any], progress: bool) -> Bench:
    """The bench of the settings: the speech of `data`, the network of `model` or of `ckpt_path`.

    Raises InputError for a checkpoint that is none, and for one of other classes or features than the speech has.
    """
    lab, device = settings["lab"], pick_device(settings["device"])
    checkpoint, network = None, settings["model"]
    if settings["ckpt_path"] is None:
        features = Features(**settings["features"])

        def open_speech(context: int) -> Speech:
            store = open_train(settings["data"], features)
            split = split_ids(store.ids, store.speakers, copies=store.copies, **settings["data"]["split"])
            return Speech(_placed(PhonemeData(store, split, unit="frame", context=context), device), device)
    else:
        checkpoint, network, data = _own(settings, device)

        def open_speech(context: int) -> Speech:
            return Speech(_placed(PhonemeData(data.store, data.split, unit="frame", context=context), device), device)

    return Bench(tuple(range(number_of_seeds(lab))), lab["budget"], device, network, open_speech, checkpoint, progress)


def _own(settings: dict[str, Any], device: torch.device) -> tuple[Own, dict[str, Any], PhonemeData]:
    """The network of `ckpt_path`, and the frames of `data` split as in its training if they are the same."""
    path = Path(settings["ckpt_path"]).expanduser()
    checkpoint = read_checkpoint(path)
    recipe = checkpoint["phoneme"]
    store = open_train(settings["data"], features_of(checkpoint))
    check_fit(store, recipe["coeffs"], tuple(recipe["phones"]["phones"]))
    known = set(store.ids)
    split = Split(**{side: tuple(ids) for side, ids in recipe["split"].items()})
    if not known >= {*split.train, *split.val}:
        log.warning("%s was trained on other utterances: split anew by data.split", path.name)
        split = split_ids(store.ids, store.speakers, copies=store.copies, **settings["data"]["split"])
    model = model_of(checkpoint, path).to(device)
    data = _placed(PhonemeData(store, split, unit=model.unit, context=getattr(model, "context", 1)), device)
    ids = {"train": split.train, "val": split.val}
    own = Own(
        name=path.name,
        model=model,
        loss=make_loss(**recipe["config"]["loss"]),
        batches=lambda side, frames, seed: data.probe(ids[side], frames, frames, seed),
    )
    return own, recipe["model"], data


def _placed(data: PhonemeData, device: torch.device) -> PhonemeData:
    data.place(device)
    return data
