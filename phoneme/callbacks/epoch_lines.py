"""Progress where there is no terminal: one line an epoch instead of a bar."""

import logging

from pytorch_lightning import Callback, LightningModule, Trainer

log = logging.getLogger(__name__)


class EpochLines(Callback):
    """Logs loss and accuracy after each epoch, for a log file, a batch system or a notebook's output."""

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        values = module.validation
        shown = ", ".join(f"{name} {values[name]:.4f}" for name in ("val/loss", "val/accuracy") if name in values)
        if trainer.is_global_zero:
            log.info("epoch %d of %s: %s", trainer.current_epoch + 1, trainer.max_epochs, shown or "no validation")
