"""The checkpoints that predict together, and the labelled utterances that none of them was trained on."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64, UInt8
from omegaconf import OmegaConf
from torch import Tensor, nn

from phoneme.checkpoint import features_of, model_of, read_checkpoint
from phoneme.columns import Features
from phoneme.decode import check_utterances
from phoneme.errors import InputError
from phoneme.evaluation import log_posteriors
from phoneme.runs.data import check_fit, open_train
from phoneme.store import FrameStore

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Member:
    """A trained model and what it was trained on."""

    path: Path
    model: nn.Module
    coeffs: int
    features: Features  # the columns of a frame that it reads
    phones: tuple[str, ...]
    train: tuple[str, ...]  # utterance ids
    val: tuple[str, ...]
    data: dict[str, Any]  # the data section of its training

    def log_posteriors(
        self, store: FrameStore, device: torch.device, batch_size: int, ids: tuple[str, ...] | None = None
    ) -> Float[Tensor, "frame classes"]:
        """What it says in every frame of the utterances `ids` (None: of all), in batches as it was validated in."""
        together = self.data.get("batch_utterances")  # older checkpoints have none
        return log_posteriors(self.model, store, device, batch_size, ids, together)


@dataclass(frozen=True, eq=False)
class Labelled:
    """Utterances with labels: to choose and score on, and to estimate from."""

    stores: list[FrameStore]  # of each member, with its features; the same one where these are the same
    held_out: tuple[str, ...]  # validated a member, trained none
    train: tuple[str, ...]  # trained a member

    def labels_of(self, ids: tuple[str, ...]) -> tuple[UInt8[Tensor, "frame"], Int64[Tensor, "utterance_plus_1"]]:
        """The labels of these utterances, one after the other, and their bounds."""
        store = self.stores[0]
        rows = store.rows_of(ids)
        bounds = torch.zeros(len(rows) + 1, dtype=torch.int64)
        bounds[1:] = store.offsets.diff()[rows].cumsum(0)
        return store.labels[store.frame_indices(rows)], bounds


def read_members(ckpt_path: str | list[str]) -> list[Member]:
    """The models of one path or of several.

    Raises InputError unless they have the same classes, and those with the same features as many coefficients.
    """
    paths = [Path(p).expanduser() for p in (ckpt_path if isinstance(ckpt_path, list) else [ckpt_path])]
    if not paths or len({path.resolve() for path in paths}) < len(paths):
        raise InputError(
            expected="one checkpoint, or several different ones",
            got=", ".join(map(str, paths)) or "an empty list",
            where="ckpt_path",
            hint="'ckpt_path=[a.ckpt,b.ckpt]'; the same network twice is no ensemble",
        )
    members = [_read(path) for path in paths]
    for member in members[1:]:
        for what, first, other in (
            ("coefficients a frame", members[0].coeffs, member.coeffs),
            ("classes", members[0].phones, member.phones),
        ):
            if other != first and (what == "classes" or member.features == members[0].features):
                raise InputError(
                    expected=f"{what} as {members[0].path} has: {_short(first)}",
                    got=_short(other),
                    where=member.path,
                    hint="members of an ensemble label the same frames with the same classes",
                )
    return members


def open_each(members: list[Member], open_store: Callable[[Features], FrameStore]) -> list[FrameStore]:
    """The frames for each member, each with the features it was trained on; opened once for those with the same.

    Raises InputError where they do not fit the member, and where two have other utterances or lengths.
    """
    opened: dict[Features, FrameStore] = {}
    for member in members:
        if member.features not in opened:
            opened[member.features] = open_store(member.features)
        check_fit(opened[member.features], member.coeffs, member.phones)
    first, *others = stores = [opened[member.features] for member in members]
    for member, store in zip(members[1:], others, strict=True):
        if store.ids != first.ids or not torch.equal(store.offsets, first.offsets):
            raise InputError(
                expected=f"the {len(first)} utterances with {first.n_frames} frames that {members[0].path} labels",
                got=f"{len(store)} with {store.n_frames} frames",
                where=f"{member.path}: {member.features}",
                hint="a bad utterance was dropped for one of them only: set data.on_bad_utterance=stop to see it",
            )
    return stores


def open_labelled(members: list[Member], section: dict[str, Any] | None) -> Labelled:
    """The labelled utterances of the data section if it has those of the first member, else of the member's own.

    Held out are the validation utterances that no member was trained on: all of them, if the members share a split.

    Raises InputError where the utterances are not there, and where fewer than two are held out (the members of a
    cross-validation have none in common).
    """
    stores = open_each(members, partial(_open, members[0], section))
    trained = {id for member in members for id in member.train}
    known = set(stores[0].ids)
    val = dict.fromkeys(id for member in members for id in member.val)  # in order, once
    held_out = tuple(id for id in val if id not in trained and id in known)
    check_utterances(len(held_out))
    if any(set(member.val) != set(members[0].val) for member in members):
        log.info(
            "the checkpoints have different splits: chosen and scored on the %d of %d validation utterances that none "
            "was trained on",
            len(held_out),
            len(val),
        )
    return Labelled(stores, held_out, tuple(sorted(trained & known)))


def _open(member: Member, section: dict[str, Any] | None, features: Features) -> FrameStore:
    candidates = [part for part in (section, member.data) if part is not None]
    for candidate in candidates:
        try:
            store = open_train(candidate, features)
            store.rows_of(member.train + member.val)
        except InputError as error:
            if candidate is candidates[-1]:
                raise
            log.info("the labels are those of the training, not of the data to predict: %s", error)
        else:
            return store
    raise AssertionError("there is always the member's own section")


def _read(path: Path) -> Member:
    checkpoint = read_checkpoint(path)
    recipe = checkpoint["phoneme"]
    data = OmegaConf.to_container(OmegaConf.create(recipe["config"]["data"]), resolve=True)
    split = {side: tuple(ids) for side, ids in recipe["split"].items()}
    phones = tuple(recipe["phones"]["phones"])
    return Member(
        path=path,
        model=model_of(checkpoint, path),
        coeffs=recipe["coeffs"],
        features=features_of(checkpoint),
        phones=phones,
        train=split["train"],
        val=split["val"],
        data=data,
    )


def _short(value: int | tuple[str, ...]) -> str:
    return f"{len(value)}: {', '.join(value[:4])}, …" if isinstance(value, tuple) else str(value)
