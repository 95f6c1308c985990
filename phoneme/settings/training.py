"""The settings of a training: augmentation, loss, optimizer, schedule, Lightning's trainer."""

from dataclasses import dataclass
from typing import Any

from omegaconf import MISSING


@dataclass
class AugmentConfig:
    time_masks: int = MISSING
    time_frames: int = MISSING
    time_share: float = MISSING
    frequency_masks: int = MISSING
    frequency_width: int = MISSING
    noise: float = MISSING
    speed: float = MISSING


@dataclass
class CrossEntropyConfig:
    name: str = "cross_entropy"
    label_smoothing: float = MISSING
    padding_class: int | None = MISSING


@dataclass
class MseConfig:
    name: str = "mse"


@dataclass
class OptimConfig:
    name: str = MISSING
    lr: float = MISSING
    weight_decay: float = MISSING


@dataclass
class SgdConfig(OptimConfig):
    pass


@dataclass
class MomentumConfig(OptimConfig):
    momentum: float = MISSING
    nesterov: bool = MISSING


@dataclass
class LarsConfig(MomentumConfig):
    trust_coefficient: float = MISSING


@dataclass
class AdagradConfig(OptimConfig):
    eps: float = MISSING


@dataclass
class RmspropConfig(OptimConfig):
    alpha: float = MISSING
    eps: float = MISSING


@dataclass
class AdamConfig(OptimConfig):
    betas: tuple[float, float] = MISSING
    eps: float = MISSING


@dataclass
class ScheduleConfig:
    name: str = MISSING
    warmup_steps: int = MISSING
    warmup_shape: str = MISSING


@dataclass
class StepConfig(ScheduleConfig):
    every: float = MISSING
    gamma: float = MISSING


@dataclass
class FinalConfig(ScheduleConfig):
    final: float = MISSING


@dataclass
class TrainerConfig:
    _target_: str = "pytorch_lightning.Trainer"
    accelerator: str = MISSING
    devices: Any = MISSING
    num_nodes: int = MISSING
    strategy: str = MISSING
    precision: str = MISSING
    max_epochs: int = MISSING
    max_steps: int = MISSING
    max_time: str | None = MISSING
    gradient_clip_val: float | None = MISSING
    accumulate_grad_batches: int = MISSING
    check_val_every_n_epoch: int = MISSING
    log_every_n_steps: int = MISSING
    limit_train_batches: Any = MISSING
    limit_val_batches: Any = MISSING
    overfit_batches: Any = MISSING
    num_sanity_val_steps: int = MISSING
    fast_dev_run: Any = MISSING
    deterministic: bool = MISSING
    benchmark: bool | None = MISSING
    detect_anomaly: bool = MISSING
    profiler: str | None = MISSING
    enable_progress_bar: bool = MISSING
    enable_model_summary: bool = MISSING
