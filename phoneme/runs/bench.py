"""From settings to the bench of an experiment: speech, a network, or the user's own."""

import logging
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from phoneme.checkpoint import features_of, model_of, read_checkpoint
from phoneme.columns import Features
from phoneme.datamodule import PhonemeData
from phoneme.lab import Bench, Own, Speech
from phoneme.losses import make_loss
from phoneme.runs.compose import compose_sections
from phoneme.runs.data import STORE_OPTIONS, check_fit, find_test, open_train
from phoneme.runs.device import pick_device
from phoneme.splits import Split, split_ids
from phoneme.store import FrameStore

log = logging.getLogger(__name__)

SEEDS = {"quick": 8, "full": 16}


def seeds_of(lab: dict[str, Any]) -> tuple[int, ...]:
    """As many as are asked for, or as is the default of the budget."""
    return tuple(range(lab["seed"], lab["seed"] + (lab["seeds"] or SEEDS[lab["budget"]])))


def make_bench(settings: dict[str, Any], progress: bool) -> Bench:
    """The bench of the settings: the speech of `data`, the network of `model` or of `ckpt_path`.

    Raises InputError for a checkpoint that is none, and for one of other classes or features than the speech has.
    """
    device, features = pick_device(settings["device"]), Features(**settings["features"])
    own = None if settings["ckpt_path"] is None else _own(settings, device)

    def read(section: dict[str, Any], context: int) -> Speech:
        store = open_train(section, features)
        split = split_ids(store.ids, store.speakers, copies=store.copies, **section["split"])
        return _speech(store, split, context, device)

    def open_speech(context: int) -> Speech:
        if own is None:
            return read(settings["data"], context)
        return _speech(own.data.store, own.data.split, context, device)

    def open_accented(context: int) -> Speech:
        section = compose_sections(("data=accented",), ("data",))["data"]
        return read(section | {key: settings["data"][key] for key in STORE_OPTIONS}, context)

    return Bench(
        seeds=seeds_of(settings["lab"]),
        budget=settings["lab"]["budget"],
        device=device,
        network=settings["model"] if own is None else own.section,
        open_speech=open_speech,
        open_accented=open_accented,
        open_test=partial(find_test, settings["data"], features),
        checkpoint=None if own is None else own.network,
        progress=progress,
    )


def _speech(store: FrameStore, split: Split, context: int, device: torch.device) -> Speech:
    data = PhonemeData(store, split, unit="frame", context=context)
    data.place(device)
    return Speech(data, device)


class _Owned(NamedTuple):
    """A network of the user's, its `model` section, and the frames it is looked at with."""

    network: Own
    section: dict[str, Any]
    data: PhonemeData


def _own(settings: dict[str, Any], device: torch.device) -> _Owned:
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
    data = PhonemeData(store, split, unit=model.unit, context=getattr(model, "context", 1))
    data.place(device)
    ids = {"train": split.train, "val": split.val}
    network = Own(
        name=path.name,
        model=model,
        loss=make_loss(**recipe["config"]["loss"]),
        batches=lambda side, frames, seed: data.probe(ids[side], frames, frames, seed),
    )
    return _Owned(network, recipe["model"], data)
