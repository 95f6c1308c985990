"""Keep one checkpoint under one name: the best so far, or the newest."""

import logging
import shutil
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.utilities import rank_zero_only

log = logging.getLogger(__name__)


class Checkpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint with a fixed file name: `DIRPATH/FILENAME.ckpt` is replaced by each better one.

    Without `monitor` the newest is kept: at the end of each epoch and, with `every_n_train_steps`, after so many
    updates within one (not after an epoch's last, which its end follows). When a training continues in another run
    directory, the best checkpoint so far moves along, so that "best" means best of the whole training.
    """

    def __init__(
        self,
        dirpath: str,
        filename: str,
        monitor: str | None = None,
        mode: str = "min",
        every_n_train_steps: int | None = None,
    ):
        super().__init__(
            dirpath=dirpath,
            filename=filename,
            monitor=monitor,
            mode=mode,
            save_top_k=1,
            save_on_train_epoch_end=True if monitor is None else None,
            auto_insert_metric_name=False,
            enable_version_counter=False,
        )
        self.within_epoch = every_n_train_steps

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if not self.within_epoch or step % self.within_epoch or step == self._last_global_step_saved:
            return
        if not trainer.is_last_batch:
            self._last_global_step_saved = step
            trainer.save_checkpoint(Path(self.dirpath, f"{self.filename}.ckpt"))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        old = Path(state["best_model_path"]) if state.get("best_model_path") else None
        if self.monitor is not None and old is not None and state["dirpath"] != self.dirpath:
            if not old.is_file():
                log.warning("%s is gone: the best checkpoint is chosen among the epochs from here on", old)
                return
            new = Path(self.dirpath, old.name)
            _copy(old, new)
            state = state | {
                "dirpath": self.dirpath,
                "best_model_path": str(new),
                "kth_best_model_path": str(new),
                "best_k_models": {str(new): state["best_model_score"]},
            }
        if state["dirpath"] == self.dirpath:
            super().load_state_dict(state)


@rank_zero_only
def _copy(old: Path, new: Path) -> None:
    new.parent.mkdir(parents=True, exist_ok=True)
    partial = new.with_name(f".{new.name}.copy")
    shutil.copyfile(old, partial)
    partial.replace(new)
