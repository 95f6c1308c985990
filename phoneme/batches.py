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
                where="data.batch_size, data.batch_frames or data.batch_utterances, trainer.devices",
                hint="set them as they were, or continue from the end of an epoch",
            )

    def generator(self) -> torch.Generator:
        """The epoch's random numbers, from the CPU on every device so that all give the same order."""
        return torch.Generator().manual_seed(self.seed * EPOCH_STRIDE + self.epoch)


class IndexBatches(Batches):
    """Batches of indices, of frames or of utterances; shuffled each epoch if `seed` is given.

    An epoch is cut into the fewest equal batches of at most `batch_size` a process: sizes differ by at most one, every
    index is in exactly one batch of exactly one process, and no last batch is too small for BatchNorm.
    """

    def __init__(
        self,
        index: Int64[Tensor, "n"],
        batch_size: int,
        *,
        seed: int | None = None,
        rank: int = 0,
        world: int = 1,
    ):
        super().__init__(seed, rank, world)
        if batch_size < 1:
            raise InputError(
                expected="at least 1 a batch",
                got=batch_size,
                where="data.batch_size, data.eval_batch_size, data.batch_utterances or batch_size",
                hint="512 frames are the course's; larger ones suit a GPU",
            )
        if len(index) < world:
            raise InputError(
                expected=f"at least {world} frames or utterances, one a process",
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

    Every epoch has the same number of batches, as the trainer and the schedule count on: what is drawn is the order of
    the utterances, and it is cut at the same places. Where these are follows from the sorted lengths, with room for the
    jitter: after it, the n-th utterance is at most `1 + jitter` times as long as the n-th without it.
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
        if batch_frames < 1:
            raise InputError(
                expected="at least 1 frame a batch",
                got=batch_frames,
                where="data.batch_frames or batch_size",
                hint="16000 are about 25 utterances of the homework",
            )
        self.rows, self.lengths = rows, lengths
        self.jitter = 0.0 if seed is None else jitter
        self.sizes = self._share(self._pack(batch_frames / (1 + self.jitter)))

    def __len__(self) -> int:
        return len(self.sizes) // self.world

    def plan(self) -> Sequence[Tensor]:
        keys, order = self.lengths.double(), range(len(self))
        if self.seed is not None:
            generator = self.generator()
            keys = keys * (1 + self.jitter * torch.rand(len(keys), generator=generator, dtype=torch.float64))
            order = torch.randperm(len(self), generator=generator).tolist()
        batches = self.rows[torch.argsort(keys, stable=True)].split(self.sizes)
        return [batches[i * self.world + self.rank] for i in order]

    def _pack(self, room: float) -> list[int]:
        """Utterances a batch: from the shortest on, until the next would take it over `room` padded frames."""
        sizes = [0]
        for length in self.lengths.sort().values.tolist():  # the newest is the longest
            if sizes[-1] and length * (sizes[-1] + 1) > room:
                sizes.append(0)
            sizes[-1] += 1
        return sizes

    def _share(self, sizes: list[int]) -> list[int]:
        """Make the number of batches divide by the processes: halve the fullest, or join where all are single."""
        target = -(-len(sizes) // self.world) * self.world
        if target <= len(self.rows):
            while len(sizes) < target:
                fullest = max(range(len(sizes)), key=sizes.__getitem__)
                half = sizes[fullest] // 2
                sizes[fullest : fullest + 1] = [sizes[fullest] - half, half]
        else:
            while len(sizes) % self.world:
                sizes[:2] = [sum(sizes[:2])]
        return sizes
