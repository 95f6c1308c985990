"""The learning rate rises from almost nothing to what the schedule says: once for any schedule and any optimizer."""

import logging
import math
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from phoneme.errors import InputError
from phoneme.optim import check_warmup_shape, make_warmup

log = logging.getLogger(__name__)


class LearningRateWarmup(Callback):
    """In the first updates the optimizer works with the schedule's rate times a factor that rises to 1.

    `steps` is a number of updates (int) or a share of the training in (0, 1) (float); `shape` is `linear`, `cosine` or
    `exponential` (`phoneme.optim.schedules`). Early updates are the ones that a large rate spoils: Adam's second
    moments rest on a few batches (Liu et al. 2020), and small steps first lead to where large ones are stable (Gilmer
    et al. 2022).

    The parameter groups hold the scaled rate while a batch is trained on, so that whoever logs it then logs the rate
    that is used, and the schedule's own again when the optimizer has stepped, before a scheduler sees it: torch's
    recursive ones (StepLR, CosineAnnealingLR, ReduceLROnPlateau) go on from the rate they find. The factor depends on
    `trainer.global_step` only: nothing is saved, and a resumed run has the rates of the uninterrupted one. An update
    that a gradient scaler skips counts as one, as it does for Lightning. Under manual optimization, where a scheduler
    may step within a batch, the rate is scaled just for `optimizer.step()`.

    Raises InputError for steps that are neither, an unknown shape, and a share of a training without an end.
    """

    def __init__(self, steps: int | float, shape: str = "linear"):
        updates = isinstance(steps, int) and steps >= 1
        share = isinstance(steps, float) and 0.0 < steps < 1.0
        if isinstance(steps, bool) or not (updates or share):
            raise InputError(
                expected="a number of updates (1 or more), or a share of the training in (0, 1)",
                got=steps,
                where="LearningRateWarmup, steps",
                hint="200 updates or 0.05 are usual; without a warm-up, leave it out",
            )
        check_warmup_shape(shape)
        self.steps, self.shape = steps, shape
        self._handles: list[RemovableHandle] = []
        self._unscaled: dict[
            Optimizer, list[Any]
        ] = {}  # the schedule's rates, a group each, while scaled ones stand in

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._factor = make_warmup(steps=self._updates(trainer), shape=self.shape)
        for optimizer in trainer.optimizers:
            self._handles += [
                optimizer.register_step_pre_hook(lambda optimizer, args, kwargs: self._scale(optimizer, trainer)),
                optimizer.register_step_post_hook(lambda optimizer, args, kwargs: self._restore(optimizer)),
            ]

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: Any, batch_idx: int) -> None:
        if module.automatic_optimization:
            for optimizer in trainer.optimizers:
                self._scale(optimizer, trainer)

    def on_before_optimizer_step(self, trainer: Trainer, module: LightningModule, optimizer: Optimizer) -> None:
        if getattr(trainer.precision_plugin, "scaler", None) is not None:
            self._restore(optimizer)  # it may skip `optimizer.step`, whose hook scales again if it does not

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._restore_all()  # after a batch that only accumulated

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        self._stop()

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        self._stop()

    def _updates(self, trainer: Trainer) -> int:
        """The length of the warm-up. A warm-up longer than the training is a warning: the rate never gets there."""
        total = trainer.estimated_stepping_batches
        if isinstance(self.steps, float):
            if math.isinf(total):
                raise InputError(
                    expected="a training whose length is known",
                    got="no limit on the updates",
                    where=f"LearningRateWarmup, steps={self.steps}",
                    hint="set trainer.max_epochs or trainer.max_steps, or give the warm-up as a number of updates",
                )
            return max(1, round(self.steps * total))
        if self.steps > total:
            log.warning(
                "the warm-up (schedule.warmup_steps=%d) is longer than the training (%d steps): "
                "optim.lr is never reached",
                self.steps,
                total,
            )
        return self.steps

    def _scale(self, optimizer: Optimizer, trainer: Trainer) -> None:
        factor = self._factor(trainer.global_step)
        if factor == 1.0 or optimizer in self._unscaled:
            return
        self._unscaled[optimizer] = [group["lr"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * factor

    def _restore(self, optimizer: Optimizer) -> None:
        # a group added in between has the rate it was added with
        for group, rate in zip(optimizer.param_groups, self._unscaled.pop(optimizer, []), strict=False):
            group["lr"] = rate

    def _restore_all(self) -> None:
        for optimizer in list(self._unscaled):
            self._restore(optimizer)

    def _stop(self) -> None:
        self._restore_all()
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
