"""The LightningModule: one model, one loss, what is measured, and what a checkpoint holds."""

import hashlib
from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from phoneme.augment import Augment
from phoneme.datamodule import FrameBatch, UtteranceBatch
from phoneme.errors import DivergedError
from phoneme.metrics import FrameMetrics, MeanLoss
from phoneme.optim import make_optimizer, make_schedule
from phoneme.phones import PhoneTable


def step_seed(seed: int, rank: int, epoch: int, batch: int, purpose: str = "") -> int:
    """The seed of one training step's random numbers: a hash, so that no two steps or processes share one.

    `purpose` tells those of an explicit generator ("augment") from the default generators' (dropout).

    Because it depends on nothing that happened before, a resumed run draws what the uninterrupted one would have
    drawn, and whoever else draws random numbers (a callback, a diagnosis) cannot change the training.
    """
    digest = hashlib.blake2b(f"{seed} {rank} {epoch} {batch} {purpose}".rstrip().encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def seed_generators(device: torch.device, seed: int) -> None:
    """Seed the default generators of the CPU and of `device`: `torch.manual_seed` without its cost on every step.

    (It records a traceback for every kind of device that is not in use, each time.)
    """
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)


class PhonemeClassifier(LightningModule):
    """Trains `model` to label frames.

    `recipe` is what `phoneme.checkpoint` needs to build the model again, in primitives; it goes into the checkpoint.
    `augment`, if given, changes each training batch, with a generator that is seeded for the step; nobody else sees
    the changed batch.

    Metrics: `train/loss` and `train/accuracy` over the epoch as it was trained (augmentation and dropout on, weights
    moving), `train/loss_step` and `train/learning_rate` at logging steps, `val/…` over all validation frames. While the
    rate warms up, `schedule` waits; the ramp itself is `phoneme.callbacks.LearningRateWarmup`.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        phones: PhoneTable,
        *,
        optim: dict[str, Any],
        schedule: dict[str, Any],
        seed: int,
        recipe: dict[str, Any],
        augment: Augment | None = None,
    ):
        super().__init__()
        self.model, self.loss, self.augment = model, loss, augment
        self.optim, self.schedule, self.seed, self.recipe = optim, schedule, seed, recipe
        self.val_metrics = FrameMetrics(len(phones), phones.silence)
        self.val_loss = MeanLoss()
        self.validation: dict[str, float] = {}  # the last one's values, until the epoch has ended
        self.epoch_sums = torch.zeros(3)  # loss · frames, right frames, frames of this process: so far this epoch
        self.history: list[dict[str, int | float]] = []  # one entry an epoch, kept through a resume

    def forward(self, batch: FrameBatch | UtteranceBatch) -> Tensor:
        return self.model(*batch.arguments)

    # -- training ------------------------------------------------------------------------------------------

    def on_train_start(self) -> None:
        self.epoch_sums = self.epoch_sums.to(self.device)  # no buffer: DDP would copy the first process's to all

    def on_train_batch_start(self, batch: FrameBatch | UtteranceBatch, batch_idx: int) -> None:
        if batch_idx == 0:
            self.epoch_sums.zero_()
        seed_generators(self.device, step_seed(self.seed, self.global_rank, self.current_epoch, batch_idx))

    def training_step(self, batch: FrameBatch | UtteranceBatch, batch_idx: int) -> Tensor:
        if self.augment is not None:
            seed = step_seed(self.seed, self.global_rank, self.current_epoch, batch_idx, "augment")
            batch = self.augment(batch, torch.Generator(self.device).manual_seed(seed))
        logits = self(batch)
        loss = self.loss(logits, batch.targets)
        with torch.no_grad():
            counted = batch.targets >= 0
            frames = counted.sum()
            right = ((logits.argmax(-1) == batch.targets) & counted).sum()
            self.epoch_sums += torch.stack([loss.detach().float() * frames, right, frames])
        if (self.trainer.global_step + 1) % self.trainer.log_every_n_steps == 0:
            loss_step = self.trainer.strategy.reduce(loss.detach().clone(), reduce_op="mean")  # over the processes
            self._check_finite(loss_step, f"update {self.trainer.global_step}")
            self.log("train/loss_step", loss_step, prog_bar=True)
            self.log("train/learning_rate", self.trainer.optimizers[0].param_groups[0]["lr"])
        return loss

    def on_train_epoch_end(self) -> None:
        loss, right, frames = self.all_gather(self.epoch_sums).view(-1, 3).sum(0)
        self._check_finite(loss, f"epoch {self.current_epoch}")
        values = {"train/loss": loss / frames, "train/accuracy": right / frames}
        self.log_dict(values, sync_dist=True)
        values = {name: float(value) for name, value in values.items()}
        self.history.append({"epoch": self.current_epoch} | values | self.validation)
        self.validation = {}

    def _check_finite(self, loss: Tensor, when: str) -> None:
        if not torch.isfinite(loss):
            raise DivergedError(
                expected="a finite loss",
                got=loss.item(),
                where=when,
                hint="try a smaller optim.lr, a longer schedule.warmup_steps or trainer.gradient_clip_val=1; "
                "trainer.detect_anomaly=true names the operation; a checkpoint that is there is from before",
            )

    # -- validation ----------------------------------------------------------------------------------------

    def validation_step(self, batch: FrameBatch | UtteranceBatch, batch_idx: int) -> None:
        logits = self(batch)
        classes = logits.shape[-1]
        self.val_loss.update(self.loss(logits, batch.targets), batch.targets)
        self.val_metrics.update(logits.float().reshape(-1, classes), batch.targets.flatten(), batch.boundary.flatten())

    def on_validation_epoch_end(self) -> None:
        loss = self.val_loss.compute()
        self._check_finite(loss, f"the validation after epoch {self.current_epoch}")
        values = {"val/loss": loss} | {f"val/{name}": value for name, value in self.val_metrics.compute().items()}
        self.validation = {name: float(value) for name, value in values.items()}
        self.log("val/accuracy", values.pop("val/accuracy"), prog_bar=True, sync_dist=True)
        self.log_dict(values, sync_dist=True)
        self.val_loss.reset()
        self.val_metrics.reset()

    # -- optimisation --------------------------------------------------------------------------------------

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        mixed = self.trainer.precision in ("16-mixed", "bf16-mixed")
        optimizer = make_optimizer(self.model.parameters(), fused=not mixed, **self.optim)
        factor = make_schedule(total_steps=self.trainer.estimated_stepping_batches, **self.schedule)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"},
        }

    # -- checkpoints ---------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["phoneme"] = self.recipe
        checkpoint["history"] = self.history
        checkpoint["epoch_sums"] = self.all_gather(self.epoch_sums).view(-1, 3)  # [process, sum]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history = checkpoint["history"]
        self.epoch_sums = checkpoint["epoch_sums"][self.global_rank :: self.trainer.world_size].sum(0)
