"""What an experiment is given: seeds, a budget, speech, networks. It takes nothing from elsewhere."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from tqdm import tqdm

from phoneme.build import build
from phoneme.errors import InputError
from phoneme.lab.speech import Speech
from phoneme.store import FrameStore

Item = TypeVar("Item")
Batch = tuple[tuple[Tensor, ...], Tensor]  # the model's arguments, targets
BUDGETS = ("quick", "full")


@dataclass(frozen=True)
class Own:
    """The user's own network: its loss, and `batches(side, frames, seed)` of its own speech, "train" or "val"."""

    name: str
    model: nn.Module
    loss: Callable[[Tensor, Tensor], Tensor]
    batches: Callable[[str, int, int], list[Batch]]


@dataclass(frozen=True)
class Bench:
    """`open_speech(context)` gives the corpus in windows of that many frames; `network` is a `model` section.

    `open_accented(context)` is the bundled accented speech in the same features, `open_test()` the corpus's test split,
    whose labels nobody knows, or None.
    """

    seeds: tuple[int, ...]
    budget: str
    device: torch.device
    network: dict[str, Any]
    open_speech: Callable[[int], Speech]
    open_accented: Callable[[int], Speech]
    open_test: Callable[[], FrameStore | None]
    checkpoint: Own | None = None
    progress: bool = False

    def choose(self, quick: Item, full: Item) -> Item:
        """A value by the budget."""
        return full if self.budget == "full" else quick

    @cached_property
    def speech(self) -> Speech:
        """The corpus in windows of the network's context."""
        return self.open_speech(self.network.get("context", 1))

    def model(self, seed: int, **changes: Any) -> nn.Module:
        """The user's network with these settings changed, its weights drawn from the seed, on the device.

        Raises InputError for a setting that this kind of model does not have, for a value it refuses, and for a model
        of whole utterances.
        """
        unknown = sorted(changes.keys() - self.network.keys())
        if unknown:
            raise InputError(
                expected=f"a model with the settings {', '.join(sorted(changes))}, which this experiment changes",
                got=f"{self.network['_target_'].rpartition('.')[-1]} without {', '.join(unknown)}",
                where="model",
                hint="model=small and model=mlp have it",
            )
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            section = {**self.network, **changes}
            model = build(section, "model", coeffs=self.speech.coeffs, classes=self.speech.classes)
        if model.unit != "frame":
            raise InputError(
                expected="a model of single frames",
                got=f"{type(model).__name__}, which labels whole utterances",
                where="model",
                hint="model=small or model=mlp; phoneme-train and phoneme-diagnose take every model",
            )
        return model.to(self.device)

    def track(self, items: Iterable[Item], what: str) -> Iterator[Item]:
        """The items, with a progress bar on a terminal."""
        return iter(tqdm(items, desc=what, leave=False, disable=None if self.progress else True))
