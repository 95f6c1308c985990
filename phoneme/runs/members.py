"""The checkpoints that predict together, and the labelled utterances that none of them was trained on."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64, UInt8
from omegaconf import OmegaConf
from torch import Tensor, nn

from phoneme.checkpoint import model_of, read_checkpoint
from phoneme.decode import check_utterances
from phoneme.errors import InputError
from phoneme.runs.data import check_fit, open_train
from phoneme.store import FrameStore

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Member:
    """A trained model and what it was trained on."""

    path: Path
    model: nn.Module
    coeffs: int
    phones: tuple[str, ...]
    train: tuple[str, ...]  # utterance ids
    val: tuple[str, ...]
    data: dict[str, Any]  # the data section of its training


@dataclass(frozen=True, eq=False)
class Labelled:
    """Utterances with labels: to choose and score on, and to estimate from."""

    store: FrameStore
    held_out: tuple[str, ...]  # validated a member, trained none
    train: tuple[str, ...]  # trained a member

    def labels_of(self, ids: tuple[str, ...]) -> tuple[UInt8[Tensor, "frame"], Int64[Tensor, "utterance_plus_1"]]:
        """The labels of these utterances, one after the other, and their bounds."""
        rows = self.store.rows_of(ids)
        bounds = torch.zeros(len(rows) + 1, dtype=torch.int64)
        bounds[1:] = self.store.offsets.diff()[rows].cumsum(0)
        return self.store.labels[self.store.frame_indices(rows)], bounds


def read_members(ckpt_path: str | list[str]) -> list[Member]:
    """The models of one path or of several. Raises InputError unless they have the same classes and coefficients."""
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
            if other != first:
                raise InputError(
                    expected=f"{what} as {members[0].path} has: {_short(first)}",
                    got=_short(other),
                    where=member.path,
                    hint="members of an ensemble label the same frames with the same classes",
                )
    return members


def open_labelled(members: list[Member], section: dict[str, Any] | None) -> Labelled:
    """The labelled utterances of the data section if it has those of the first member, else of the member's own.

    Held out are the validation utterances that no member was trained on: all of them, if the members share a split.

    Raises InputError where the utterances are not there, and where fewer than two are held out (the members of a
    cross-validation have none in common).
    """
    store = _open(members[0], section)
    check_fit(store, members[0].coeffs, members[0].phones)
    trained = {id for member in members for id in member.train}
    known = set(store.ids)
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
    return Labelled(store, held_out, tuple(sorted(trained & known)))


def _open(member: Member, section: dict[str, Any] | None) -> FrameStore:
    candidates = [part for part in (section, member.data) if part is not None]
    for candidate in candidates:
        try:
            store = open_train(candidate)
            store.rows_of(member.train + member.val)
        except InputError:
            if candidate is candidates[-1]:
                raise
        else:
            return store
    raise AssertionError("there is always the member's own section")


def _read(path: Path) -> Member:
    checkpoint = read_checkpoint(path)
    recipe = checkpoint["phoneme"]
    data = OmegaConf.to_container(OmegaConf.create(recipe["config"]["data"]), resolve=True)
    split = {side: tuple(ids) for side, ids in recipe["split"].items()}
    phones = tuple(recipe["phones"]["phones"])
    return Member(path, model_of(checkpoint, path), recipe["coeffs"], phones, split["train"], split["val"], data)


def _short(value: int | tuple[str, ...]) -> str:
    return f"{len(value)}: {', '.join(value[:4])}, …" if isinstance(value, tuple) else str(value)
