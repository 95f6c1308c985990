"""The weights that are validated and kept are an average over updates; those that are trained are left alone."""

import logging
import math
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor, nn

from phoneme.errors import InputError

log = logging.getLogger(__name__)

STATISTICS = ("running_mean", "running_var")
RAMP = 10  # (1 + n) / (10 + n): the decay TensorFlow's ExponentialMovingAverage has with num_updates


class WeightAverage(WeightAveraging):
    """Averages the weights after every `every_n_steps`-th update from `start` on, an update or a share of the training.

    With a `decay` d it is exponential, the newest weights counting 1 - d_n (Polyak & Juditsky 1992; d near 1). After n
    averaged updates d_n = min(d, (1 + n) / (10 + n)): a training too short for d averages over about its last tenth,
    where a fixed 0.999 would still hold a third of the first weights after 1000 updates. Without, all count equally
    (Izmailov et al. 2018, "stochastic weight averaging", who start at three quarters of the training).

    Validation, and so the best checkpoint and early stopping, sees the average; so do prediction.csv and the summary.
    In a checkpoint `state_dict` is the average, which `phoneme.load` gives; the trained weights are beside it, so that
    a training continues bitwise. Until the average starts it is the trained weights. Training itself is bitwise the
    same, and what watches its updates (gradients, critical points) sees the trained weights.

    The running statistics of BatchNorm are averaged as the weights are. Other buffers are copied: a mean of counters,
    or of the singular vectors of `model.norm=spectral`, whose signs differ, means nothing.

    A training that is continued for so long that a share `start` has not come yet drops the average it had.

    What is swapped, saved and loaded is Lightning's callback; it alone would not serve: until its average starts it
    validates and saves the network as initialised; its decay is fixed; it sets the average up before the module is on
    the GPU, and so in host memory; torch's update looks at the number of averaged updates, and on a GPU waits for it;
    its exponential average rounds counters down. Lightning's older `StochasticWeightAveraging` validates and keeps the
    weights that are not averaged, replaces the schedule, and takes BatchNorm's statistics anew in a way that
    `MaskedBatchNorm` does not know.

    Raises InputError for a decay outside (0, 1), a start or an interval that is none, and for a share of a training
    without an end.
    """

    def __init__(self, decay: float | None, start: int | float = 0, every_n_steps: int = 1):
        if decay is not None and not 0.0 < decay < 1.0:
            raise InputError(
                expected="a decay in (0, 1), or null: all averaged updates count equally",
                got=decay,
                where="callbacks.averaging.decay",
                hint="0.999 averages over about the last 1000 updates",
            )
        updates = isinstance(start, int) and start >= 0
        share = isinstance(start, float) and 0.0 <= start < 1.0
        if isinstance(start, bool) or not (updates or share):
            raise InputError(
                expected="a number of updates (0 or more), or a share of the training in [0, 1)",
                got=start,
                where="callbacks.averaging.start",
                hint="0.75: the last quarter is averaged",
            )
        if every_n_steps < 1:
            raise InputError(
                expected="at least 1 update",
                got=every_n_steps,
                where="callbacks.averaging.every_n_steps",
                hint="1: after each",
            )
        super().__init__()
        self.decay, self.start, self.every_n_steps = decay, start, every_n_steps

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if stage == "fit":  # the module itself is moved later
            average = self._average_model
            average.module.to(trainer.strategy.root_device)
            average.n_averaged = average.n_averaged.cpu()  # it is read at each update

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        total = trainer.estimated_stepping_batches
        self._first = self.start
        if isinstance(self.start, float):
            if math.isinf(total):
                raise InputError(
                    expected="a training whose length is known",
                    got="no limit on the updates",
                    where=f"callbacks.averaging.start={self.start}",
                    hint="set trainer.max_epochs or trainer.max_steps, or give a number of updates",
                )
            self._first = int(self.start * total)
        if self._first >= total:
            log.warning(
                "no weights are averaged: callbacks.averaging.start=%d, and the training has %d updates",
                self.start,
                total,
            )
        if trainer.global_step <= self._first and int(self._average_model.n_averaged) > 0:
            log.info("the average of the checkpoint is dropped: the longer training starts one after %d", self._first)
            self._average_model.n_averaged.zero_()

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Whether the weights after update `step_idx` (from 0) are averaged; none is at the end of an epoch."""
        return step_idx is not None and step_idx >= self._first and (step_idx - self._first) % self.every_n_steps == 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        done = trainer.global_step  # the same after a batch that only accumulated
        if done > self._latest_update_step and self.should_update(step_idx=done - 1):
            self._take_in(pl_module)
            self._latest_update_step = done

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._keep_up(pl_module)
        super().on_validation_epoch_start(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._keep_up(pl_module)
        super().on_train_end(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._keep_up(pl_module)
        super().on_save_checkpoint(trainer, pl_module, checkpoint)

    def _keep_up(self, pl_module: LightningModule) -> None:
        """Before the average has started, it is the weights as they are."""
        average = self._average_model
        if average is not None and int(average.n_averaged) == 0:
            average.module.load_state_dict(pl_module.state_dict())

    def _take_in(self, pl_module: LightningModule) -> None:
        """average += weight (current - average), tensor by tensor; what has no mean is taken as it is."""
        average = self._average_model
        n = int(average.n_averaged)
        weight = 1 / (n + 1) if self.decay is None or n == 0 else 1 - min(self.decay, (1 + n) / (RAMP + n))
        (old, kept), (new, current) = _averaged_and_copied(average.module), _averaged_and_copied(pl_module)
        torch._foreach_lerp_(old, new, weight)
        for mine, now in zip(kept, current, strict=True):
            mine.copy_(now)
        average.n_averaged += 1


def _averaged_and_copied(module: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """The weights with the running statistics, and the other buffers."""
    averaged, copied = [weight.detach() for weight in module.parameters()], []
    for name, buffer in module.named_buffers():
        (averaged if name.rpartition(".")[2] in STATISTICS else copied).append(buffer.detach())
    return averaged, copied
