"""The order of batches: a pure function of (seed, epoch, process), so that it can be resumed and repeated.

A batch is a tensor of *indices*; the data itself is gathered where the model runs (`windows.py`). Each class here is
what Lightning calls a stateful dataloader: iterable, sized, with `state_dict` for a checkpoint in mid-epoch.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Int64
from torch import Tensor

from phoneme.errors import InputError

EPOCH_STRIDE = 1_000_003  # a prime: (seed, epoch) pairs of a study do not share a generator seed


class Batches(ABC):
    """An epoch's batches for one process of `world`, restartable at any batch."""

    batch_sampler = None  # Lightning asks for both samplers of a torch DataLoader

    def __init__(self, seed: int | None, rank: int, world: int):
        self.seed, self.rank, self.world = seed, rank, world
        self.epoch = 0
        self.handed_out = 0
        self._resume_at = 0

    @abstractmethod
    def plan(self) -> Sequence[Tensor]:
        """This epoch's batches of this process, in order; the same number in every process."""

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    def sampler(self) -> "Batches":
        """Where Lightning looks for `set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        if epoch != self.epoch:
            self.epoch, self._resume_at = epoch, 0

    def __iter__(self) -> Iterator[Tensor]:
        start, self._resume_at = self._resume_at, 0
        self.handed_out = start
        for batch in self.plan()[start:]:
            self.handed_out += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "handed_out": self.handed_out, "batches": len(self)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue at a position; InputError in the middle of an epoch that is now cut into other batches."""
        self.epoch, self._resume_at = state["epoch"], state["handed_out"]
        if self._resume_at < state["batches"] != len(self):
            raise InputError(
                expected=f"{state['batches']} batches an epoch, as in the checkpoint (made in mid-epoch)",
                got=len(self),
                where="data.batch_size, trainer.devices",
                hint="set them as they were, or continue from the end of an epoch",
            )

    def generator(self) -> torch.Generator:
        """The epoch's random numbers, from the CPU on every device so that all give the same order."""
        return torch.Generator().manual_seed(self.seed * EPOCH_STRIDE + self.epoch)


class FrameBatches(Batches):
    """Batches of frame indices; shuffled each epoch if `seed` is given.

    An epoch is cut into the fewest equal batches of at most `batch_size` frames a process: sizes differ by at most
    one, every frame is in exactly one batch of exactly one process, and no last batch is too small for BatchNorm.
    """

    def __init__(
        self,
        index: Int64[Tensor, "frame"],
        batch_size: int,
        *,
        seed: int | None = None,
        rank: int = 0,
        world: int = 1,
    ):
        super().__init__(seed, rank, world)
        if batch_size < 1:
            raise InputError(
                expected="at least 1 frame a batch",
                got=batch_size,
                where="data.batch_size, data.eval_batch_size or batch_size",
                hint="512 is the course's; larger ones suit a GPU",
            )
        if len(index) < world:
            raise InputError(
                expected=f"at least {world} frames, one a process",
                got=len(index),
                where="trainer.devices",
                hint="use fewer processes or more data",
            )
        self.index = index
        self.n_batches = min(-(-len(index) // (batch_size * world)), len(index) // world)  # none is empty

    def __len__(self) -> int:
        return self.n_batches

    def plan(self) -> Sequence[Tensor]:
        order = self.index
        if self.seed is not None:
            shuffle = torch.randperm(len(order), generator=self.generator())
            order = order[shuffle.to(order.device)]
        chunks = self.n_batches * self.world
        bounds = [i * len(order) // chunks for i in range(chunks + 1)]
        mine = range(self.rank, chunks, self.world)
        return [order[bounds[i] : bounds[i + 1]] for i in mine]


class UtteranceBatches(Batches):
    """Batches of whole utterances of similar length, at most `batch_frames` frames each with the padding.

    With `seed`, lengths are jittered by up to `jitter` before sorting, so that the company of an utterance changes
    from epoch to epoch, and the batches come in random order. Every utterance is in one batch of one process.
    """

    def __init__(
        self,
        rows: Int64[Tensor, "utterance"],
        lengths: Int64[Tensor, "utterance"],
        batch_frames: int,
        *,
        seed: int | None = None,
        rank: int = 0,
        world: int = 1,
        jitter: float = 0.1,
    ):
        super().__init__(seed, rank, world)
        if len(rows) < world:
            raise InputError(
                expected=f"at least {world} utterances, one a process",
                got=len(rows),
                where="trainer.devices",
                hint="use fewer processes or more data",
            )
        self.rows, self.lengths, self.batch_frames, self.jitter = rows, lengths, batch_frames, jitter

    def __len__(self) -> int:
        return len(self.plan())

    def plan(self) -> Sequence[Tensor]:
        keys = self.lengths.double()
        if self.seed is not None:
            generator = self.generator()
            keys = keys * (1 + self.jitter * torch.rand(len(keys), generator=generator, dtype=torch.float64))
        batches = self._share(self._pack(torch.argsort(keys, stable=True)))
        if self.seed is not None:
            order = torch.randperm(len(batches) // self.world, generator=generator).tolist()
        else:
            order = range(len(batches) // self.world)
        return [batches[i * self.world + self.rank] for i in order]

    def _pack(self, order: Int64[Tensor, "utterance"]) -> list[Tensor]:
        """Fill batches in `order` until the next utterance would take one over `batch_frames` padded frames."""
        batches, current, longest = [], [], 0
        for position, length in zip(order.tolist(), self.lengths[order].tolist(), strict=True):
            longest = max(longest, length)
            if current and longest * (len(current) + 1) > self.batch_frames:
                batches.append(self.rows[current])
                current, longest = [], length
            current.append(position)
        return [*batches, self.rows[current]]

    def _share(self, batches: list[Tensor]) -> list[Tensor]:
        """Make the number of batches divide by the processes: halve the fullest, or join where all are single."""
        target = -(-len(batches) // self.world) * self.world
        if target <= len(self.rows):
            while len(batches) < target:
                fullest = max(range(len(batches)), key=lambda i: len(batches[i]))
                batches[fullest : fullest + 1] = batches[fullest].tensor_split(2)
        else:
            while len(batches) % self.world:
                batches[:2] = [torch.cat(batches[:2])]
        return batches
