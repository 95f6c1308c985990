"""How many frames a second the training gets through."""

import time

from pytorch_lightning import Callback, LightningModule, Trainer


class Throughput(Callback):
    """Logs `train/frames_per_second`, all processes together: data, forward, backward and update; no validation.

    The clock stops at the end of an epoch after the device has finished: one wait an epoch.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.frames = 0
        self._epoch_start = 0.0
        self._validation_start = 0.0
        self._already = 0.0

    @property
    def frames_per_second(self) -> float:
        """Over all epochs of this process's life; 0 before the first epoch has ended."""
        return self.frames / self.seconds if self.seconds else 0.0

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._already = module.epoch_sums[-1].item()  # not 0 after a resume in mid-epoch
        self._epoch_start = time.perf_counter()

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._already = 0.0
        self._epoch_start = time.perf_counter()

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._validation_start = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        self._epoch_start += time.perf_counter() - self._validation_start

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        frames = (module.epoch_sums[-1].item() - self._already) * trainer.world_size
        seconds = time.perf_counter() - self._epoch_start
        self.frames += int(frames)
        self.seconds += seconds
        module.log("train/frames_per_second", frames / seconds, sync_dist=True)
