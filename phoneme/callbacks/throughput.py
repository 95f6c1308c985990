"""How fast the training is, what it waits for, what memory it takes, and how much of the device it uses."""

import logging
import resource
import sys
import time
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from phoneme.callbacks.flops import flops_of, peak_flops

log = logging.getLogger(__name__)


def peak_memory(device: torch.device) -> dict[str, float]:
    """The process's largest resident set so far, and on CUDA the most memory its tensors took, in GiB."""
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes on macOS, KiB on Linux
    peak = {"peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30}
    if device.type == "cuda":
        peak["peak_gpu_memory_gib"] = torch.cuda.max_memory_allocated(device) / 2**30
    return {name: round(gib, 3) for name, gib in peak.items()}


class Throughput(Callback):
    """Logs after each epoch:

    - `train/frames_per_second`, all processes together: data, forward, backward and update; no validation
    - `train/data_seconds`: the part of it between two batches, that is shuffling, the loader, gathering the windows
      and copying them to the device; also what the loggers write there, a checkpoint saved within the epoch, and, with
      several processes, waiting for the slowest. On a GPU kernels run on their own: it is the time to start them. The
      mean over the processes
    - `train/peak_memory_gib`, and on a GPU `train/peak_gpu_memory_gib`: so far, of the process that takes most
    - `train/model_flops_per_second`: frames a second times what the model needs for one, forward and backward; padding
      is no work. Where the device's peak is known, the share of it is `train/model_flops_utilisation`, of 1 (Chowdhery
      et al. 2022, appendix B)

    The clock stops at the end of an epoch after the device has finished: one wait an epoch.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.frames = 0
        self._epoch_start = 0.0
        self._pause_start = 0.0
        self._already = 0.0
        self._data_seconds = 0.0
        self._batch_end = 0.0
        self._flops_per_frame: float | None = None  # 0: it cannot be counted
        self._peak: float | None = None

    @property
    def frames_per_second(self) -> float:
        """Over all epochs of this process's life; 0 before the first epoch has ended."""
        return self.frames / self.seconds if self.seconds else 0.0

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._peak = peak_flops(trainer.strategy.root_device, trainer.precision)
        self._start_epoch(module.epoch_sums[-1].item())  # not 0 after a resume in mid-epoch

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._start_epoch(0.0)

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: Any, batch_idx: int) -> None:
        now = time.perf_counter()
        self._data_seconds += now - self._batch_end
        if self._flops_per_frame is None:
            self._flops_per_frame = self._count(module, batch)
            self._epoch_start += time.perf_counter() - now

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._batch_end = time.perf_counter()

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._pause_start = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        pause = time.perf_counter() - self._pause_start
        self._epoch_start += pause
        self._batch_end += pause

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        frames = (module.epoch_sums[-1].item() - self._already) * trainer.world_size
        seconds = time.perf_counter() - self._epoch_start
        self.frames += int(frames)
        self.seconds += seconds
        means = {"frames_per_second": frames / seconds, "data_seconds": self._data_seconds}
        if self._flops_per_frame:
            rate = self._flops_per_frame * frames / seconds
            means["model_flops_per_second"] = rate
            if self._peak is not None:
                means["model_flops_utilisation"] = rate / (self._peak * trainer.world_size)
        module.log_dict({f"train/{name}": value for name, value in means.items()}, sync_dist=True)
        peaks = peak_memory(trainer.strategy.root_device)
        module.log_dict({f"train/{name}": gib for name, gib in peaks.items()}, sync_dist=True, reduce_fx="max")

    def _start_epoch(self, already: float) -> None:
        self._already = already
        self._data_seconds = 0.0
        self._epoch_start = self._batch_end = time.perf_counter()

    def _count(self, module: LightningModule, batch: Any) -> float:
        try:
            return flops_of(module.model, batch.arguments) / batch.targets.numel()
        except (RuntimeError, NotImplementedError) as error:
            log.warning("no FLOP/s: they cannot be counted for this model (%s)", str(error).splitlines()[0])
            return 0.0
