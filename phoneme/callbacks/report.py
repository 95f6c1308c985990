"""Tell someone outside how the training is doing, and end it when they say so."""

from collections.abc import Callable

from pytorch_lightning import Callback, LightningModule, Trainer


class Pruned(Exception):
    """The training was ended from outside: it is no longer promising."""


class Report(Callback):
    """Calls `tell(epoch, metrics)` after each validation; the training ends with Pruned unless that returns True.

    `epoch` counts from 1, `metrics` has every logged number.
    """

    def __init__(self, tell: Callable[[int, dict[str, float]], bool]):
        self.tell = tell

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.sanity_checking:
            return
        epoch = trainer.current_epoch + 1
        if not self.tell(epoch, {name: float(value) for name, value in trainer.callback_metrics.items()}):
            raise Pruned(f"after epoch {epoch}")
