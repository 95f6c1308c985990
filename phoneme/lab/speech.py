"""Frames of real speech for an experiment: drawn at random from the training and from the held-out utterances."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from phoneme.datamodule import FrameBatch, PhonemeData
from phoneme.errors import InputError
from phoneme.splits import Split
from phoneme.store import FrameStore


@dataclass(frozen=True)
class Frames:
    """Windows and the classes of their centre frames."""

    inputs: Float[Tensor, "frame context coeff"]
    targets: Int64[Tensor, "frame"]

    def __len__(self) -> int:
        return len(self.targets)

    def at(self, index: Int64[Tensor, "batch"]) -> "Frames":
        return Frames(self.inputs.index_select(0, index), self.targets.index_select(0, index))


class Speech:
    """The frames of a corpus, where the experiment computes. No utterance is on both sides."""

    def __init__(self, data: PhonemeData, device: torch.device):
        self.data, self.device = data, device

    @property
    def store(self) -> FrameStore:
        return self.data.store

    @property
    def split(self) -> Split:
        return self.data.split

    @property
    def classes(self) -> int:
        return len(self.store.phones)

    @property
    def coeffs(self) -> int:
        return self.store.coeffs

    @property
    def context(self) -> int:
        """Frames of a window."""
        return self.data.context

    def train(self, count: int, seed: int) -> Frames:
        """`count` frames of the training utterances. Raises InputError if there are fewer."""
        return self.frames(self.split.train, count, seed)

    def val(self, count: int, seed: int) -> Frames:
        """`count` frames of the held-out utterances. Raises InputError if there are fewer."""
        return self.frames(self.split.val, count, seed)

    def frames(self, ids: tuple[str, ...], count: int, seed: int) -> Frames:
        """`count` frames of these utterances, drawn by the seed. Raises InputError if there are fewer."""
        batch = self.data.gather(self.data.draw(ids, count, seed))
        assert isinstance(batch, FrameBatch)
        if len(batch.targets) < count:
            raise InputError(
                expected=f"{count} labelled frames",
                got=f"{len(batch.targets)} in {len(ids)} utterances",
                where="data",
                hint="take a larger corpus; the bundled sample has enough",
            )
        return Frames(batch.inputs.to(self.device), batch.targets.to(self.device))
