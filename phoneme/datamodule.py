"""From a store and a split to batches on the device.

The loaders hand out indices; `on_before_batch_transfer` gathers what they stand for, on the device if the frames live
there (then no frame is copied in the inner loop), else on the host.
"""

import logging
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from pytorch_lightning import LightningDataModule
from torch import Tensor

from phoneme.batches import Batches, IndexBatches, UtteranceBatches
from phoneme.errors import InputError
from phoneme.losses import IGNORE
from phoneme.metrics import at_boundary
from phoneme.splits import Split
from phoneme.store import FrameStore
from phoneme.windows import gather_labels, gather_utterances, gather_windows

log = logging.getLogger(__name__)

FREE_SHARE = 0.5  # of the device's free memory the frames may take: the rest is the model's


def fits(store: FrameStore, device: torch.device) -> bool:
    """Whether the frames fill less than `FREE_SHARE` of a CUDA device's free memory; a warning if they do not."""
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    if store.nbytes > FREE_SHARE * free:
        log.warning(
            "the frames (%.1f GiB) stay in host memory: the device has %.1f GiB free; each batch is copied",
            store.nbytes / 2**30,
            free / 2**30,
        )
        return False
    return True


def to_device(numbers: Int64[Tensor, "n"], device: torch.device) -> Int64[Tensor, "n"]:
    """A few numbers from the host on the device. From pinned memory the copy to a GPU is queued: the host goes on."""
    if device.type == "cuda":
        return numbers.pin_memory().to(device, non_blocking=True)
    return numbers.to(device)


class FrameBatch(NamedTuple):
    """Windows around single frames."""

    inputs: Float[Tensor, "batch context coeff"]
    targets: Int64[Tensor, "batch"]
    boundary: Bool[Tensor, "batch"]  # the frame has a neighbour of another class

    @property
    def arguments(self) -> tuple[Tensor]:
        """What the model is called with."""
        return (self.inputs,)


class UtteranceBatch(NamedTuple):
    """Whole utterances, zero-padded to the longest."""

    inputs: Float[Tensor, "batch frame coeff"]
    targets: Int64[Tensor, "batch frame"]  # IGNORE where padded
    boundary: Bool[Tensor, "batch frame"]
    lengths: Int64[Tensor, "batch"]  # in frames

    @property
    def arguments(self) -> tuple[Tensor, Tensor]:
        """What the model is called with."""
        return self.inputs, self.lengths


class PhonemeData(LightningDataModule):
    """Training and validation batches of one labelled store.

    `unit` is what the model labels at once: "frame" (windows of `context` frames) or "utterance" (whole ones of similar
    length, at most `batch_frames` padded frames a batch; or `batch_utterances` of them, of any length). `device` is
    "auto" or "cpu": where the frames are kept.
    """

    def __init__(
        self,
        store: FrameStore,
        split: Split,
        *,
        unit: str = "frame",
        context: int = 1,
        batch_size: int = 512,
        eval_batch_size: int = 2048,
        batch_frames: int = 16_000,
        batch_utterances: int | None = None,
        device: str = "auto",
        seed: int = 0,
    ):
        super().__init__()
        if device not in ("auto", "cpu"):
            raise InputError(
                expected="auto or cpu",
                got=device,
                where="data.device",
                hint="auto keeps the frames on the training device if they fill less than half of it",
            )
        if unit == "frame" and batch_utterances is not None:
            log.warning("data.batch_utterances has no effect: this model labels frames; data.batch_size counts them")
        self.store, self.split, self.unit, self.context = store, split, unit, context
        self.batch_size, self.eval_batch_size, self.batch_frames = batch_size, eval_batch_size, batch_frames
        self.batch_utterances, self.device, self.seed = batch_utterances, device, seed
        self.boundary = at_boundary(store.labels, store.offsets)
        self.lengths = store.offsets.diff()
        self.training: Batches | None = None
        self.position: dict[str, int] | None = None  # in the training batches, from a checkpoint

    def setup(self, stage: str) -> None:
        self.place(self.trainer.strategy.root_device)

    def place(self, device: torch.device) -> None:
        """Move the frames to `device` if they are wanted there and fit."""
        if self.device == "auto" and fits(self.store, device):
            self.store, self.boundary = self.store.to(device), self.boundary.to(device)

    def train_dataloader(self) -> Batches:
        trainer = self.trainer
        seed = None if trainer.overfit_batches else self.seed  # the same few batches each epoch
        self.training = self.batches(self.split.train, self.batch_size, seed, trainer.global_rank, trainer.world_size)
        if self.position is not None:
            self.training.load_state_dict(self.position)
        return self.training

    def val_dataloader(self) -> Batches:
        trainer = self.trainer
        return self.batches(self.split.val, self.eval_batch_size, None, trainer.global_rank, trainer.world_size)

    # Lightning restores a loader's own state too late when the schedule has asked for the number of updates; a data
    # module's state comes in time.

    def state_dict(self) -> dict[str, Any]:
        return {"training": self.training.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = state["training"]

    def batches(
        self, ids: tuple[str, ...], batch_size: int, seed: int | None = None, rank: int = 0, world: int = 1
    ) -> Batches:
        """Batches of the utterances `ids` for one process of `world`; shuffled if `seed` is given."""
        rows = self.store.rows_of(ids)
        if self.unit == "utterance" and self.batch_utterances is not None:
            return IndexBatches(rows, self.batch_utterances, seed=seed, rank=rank, world=world)
        if self.unit == "utterance":
            return UtteranceBatches(rows, self.lengths[rows], self.batch_frames, seed=seed, rank=rank, world=world)
        index = self.store.frame_indices(rows).to(self.store.frames.device)  # once, not batch by batch
        return IndexBatches(index, batch_size, seed=seed, rank=rank, world=world)

    def draw(self, ids: tuple[str, ...], frames: int, seed: int = 0) -> Int64[Tensor, "n"]:
        """The numbers of `frames` frames drawn at random from the utterances `ids`, ascending; or all."""
        index, generator = self.store.frame_indices(self.store.rows_of(ids)), torch.Generator().manual_seed(seed)
        chosen = index[torch.randperm(len(index), generator=generator)[:frames]].sort().values
        return chosen.to(self.store.frames.device)

    def probe(
        self, ids: tuple[str, ...], frames: int, batch_size: int, seed: int = 0
    ) -> list[tuple[tuple[Tensor, ...], Tensor]]:
        """A fixed sample to look at: pairs (arguments of the model, targets), on the device of the frames.

        A frame model gets `frames` frames drawn at random from the utterances `ids` (all of them, if there are fewer),
        in batches of `batch_size`; a sequence model gets whole utterances until there are `frames` frames.

        Raises InputError for sizes below 1.
        """
        for name, value in (("frames", frames), ("batch_size", batch_size)):
            if value < 1:
                raise InputError(
                    expected="at least 1",
                    got=value,
                    where=f"{name} of the probe set",
                    hint="1024 frames suit a small network",
                )
        if self.unit == "frame":
            plan: Batches = IndexBatches(self.draw(ids, frames, seed), batch_size)
        else:
            rows, generator = self.store.rows_of(ids), torch.Generator().manual_seed(seed)
            rows = rows[torch.randperm(len(rows), generator=generator)]
            enough = int((self.lengths[rows].cumsum(0) < frames).sum()) + 1
            rows = rows[:enough]
            plan = UtteranceBatches(rows, self.lengths[rows], max(batch_size, int(self.lengths[rows].max())))
        return [(batch.arguments, batch.targets) for batch in map(self.gather, plan)]

    def on_before_batch_transfer(self, batch: Tensor, dataloader_idx: int = 0) -> FrameBatch | UtteranceBatch:
        return self.gather(batch)

    def gather(self, batch: Int64[Tensor, "batch"]) -> FrameBatch | UtteranceBatch:
        """What a batch of indices stands for, on the device of the frames."""
        store = self.store
        if self.unit == "frame":
            inputs = gather_windows(store.frames, store.offsets, batch, self.context)
            return FrameBatch(inputs, store.labels.index_select(0, batch).long(), self.boundary.index_select(0, batch))
        longest = int(self.lengths[batch].max())
        rows = to_device(batch, store.frames.device)
        inputs, index, lengths, mask = gather_utterances(store.frames, store.offsets, rows, longest)
        targets = gather_labels(store.labels, index, mask, IGNORE)
        boundary = self.boundary.index_select(0, index.flatten()).view(index.shape) & mask
        return UtteranceBatch(inputs, targets, boundary, lengths)
