"""The one training loop of all experiments: nothing in it that is not the subject of one of them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64
from torch import Tensor, nn

from phoneme.lab.speech import Frames
from phoneme.losses import cross_entropy

EVALUATED = 8192  # frames a forward pass
Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Descent:
    """The loss of each update's batch, before the update."""

    losses: Float64[Tensor, " step"]

    @property
    def diverged(self) -> bool:
        """Did the loss become infinite or NaN?"""
        return not bool(self.losses.isfinite().all())


@dataclass(frozen=True)
class Score:
    """Mean loss, and share of the frames that are labelled right, in evaluation mode."""

    loss: float
    accuracy: float


def descend(
    model: nn.Module,
    frames: Frames,
    optimizer: torch.optim.Optimizer,
    *,
    steps: int,
    batch_size: int | None,
    seed: int,
    loss: Loss = cross_entropy,
    schedule: Callable[[int], float] | None = None,
    watch: Callable[[int], object] | None = None,
) -> Descent:
    """Train `model` where it is: `steps` updates on batches of the frames, in an order that the seed gives.

    `batch_size` None takes all frames in each update. `schedule(step)` is a factor of each learning rate. `watch(step)`
    is called between the backward pass and the update. Dropout draws from the seed too; the random state outside is
    left as it was.
    """
    device = frames.targets.device
    rates = [group["lr"] for group in optimizer.param_groups]
    order = _batches(len(frames), batch_size, seed)
    losses: list[Tensor] = []
    model.train()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for step in range(steps):
            if schedule is not None:
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * schedule(step)
            batch = frames if batch_size is None else frames.at(next(order).to(device))
            optimizer.zero_grad()
            value = loss(model(batch.inputs), batch.targets)
            value.backward()
            if watch is not None:
                watch(step)
            optimizer.step()
            losses.append(value.detach())
    seen = torch.stack(losses) if losses else torch.zeros(0)
    return Descent(seen.double().cpu())


def _batches(count: int, batch_size: int | None, seed: int) -> Iterator[Int64[Tensor, " batch"]]:
    """Whole batches, epoch after epoch, each shuffled anew; what is left of an epoch begins the next."""
    generator, left = torch.Generator().manual_seed(seed), torch.zeros(0, dtype=torch.int64)
    while batch_size is not None:
        while len(left) < batch_size:
            left = torch.cat([left, torch.randperm(count, generator=generator)])
        yield left[:batch_size]
        left = left[batch_size:]


@torch.no_grad()
def score(model: nn.Module, frames: Frames, loss: Loss = cross_entropy) -> Score:
    """Of all frames, in evaluation mode; the model's mode is left as it was."""
    training = model.training
    model.eval()
    chunks = zip(frames.inputs.split(EVALUATED), frames.targets.split(EVALUATED), strict=True)
    totals = torch.zeros(2, device=frames.targets.device)
    for inputs, targets in chunks:
        outputs = model(inputs)
        right = (outputs.argmax(-1) == targets).sum()
        totals += torch.stack([loss(outputs, targets) * len(targets), right])
    model.train(training)
    mean, accuracy = (totals / len(frames)).tolist()
    return Score(mean, accuracy)
