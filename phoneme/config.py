"""The law of the configuration: a dataclass for every section.

The YAML files under `conf/` are the surface; each names its dataclass here in its defaults list, so a wrong
name or a wrong type is refused while the configuration is composed, before torch is imported.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf

from phoneme.model_settings import ConformerConfig, LinearConfig, MlpConfig, RecurrentConfig, TcnConfig

PACKAGE = Path(__file__).resolve().parent
REPOSITORY = PACKAGE.parent


def shipped(name: str) -> Path:
    """A folder that travels with the code: inside the package in a wheel, beside it in a checkout."""
    return next(p for p in (PACKAGE / name, REPOSITORY / name) if p.is_dir())


CONF = shipped("conf")

OmegaConf.register_new_resolver("bundled_sample", lambda: str(shipped("data/sample")), replace=True)


# -- data --------------------------------------------------------------------------------------------------


@dataclass
class SplitConfig:
    by: str = MISSING
    val_fraction: float = MISSING
    seed: int = MISSING
    folds: int | None = MISSING
    fold: int = MISSING


@dataclass
class DataConfig:
    name: str = MISSING
    root: str = MISSING
    dtype: str = MISSING
    cache_dir: str | None = MISSING
    on_bad_utterance: str = MISSING
    workers: int = MISSING
    device: str = MISSING
    batch_size: int = MISSING
    eval_batch_size: int = MISSING
    batch_frames: int = MISSING
    sample_submission: str | None = MISSING
    split: SplitConfig = field(default_factory=SplitConfig)


@dataclass
class LibriphoneConfig(DataConfig):
    speaker_pattern: str = MISSING


@dataclass
class Timit11Config(DataConfig):
    pass


# -- losses, optimisers, schedules -------------------------------------------------------------------------


@dataclass
class CrossEntropyConfig:
    name: str = "cross_entropy"
    label_smoothing: float = MISSING


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


# -- Lightning ---------------------------------------------------------------------------------------------


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


# -- decode ------------------------------------------------------------------------------------------------


@dataclass
class ArgmaxConfig:
    name: str = MISSING


@dataclass
class MedianConfig:
    name: str = MISSING
    window: list[int] = MISSING


@dataclass
class HmmConfig:
    name: str = MISSING
    prior_weight: list[float] = MISSING
    transition_weight: list[float] = MISSING
    minimum_frames: list[int] = MISSING
    smoothing: float = MISSING


# -- one dataclass a command -------------------------------------------------------------------------------


@dataclass
class TrainConfig:
    seed: int = MISSING
    ckpt_path: str | None = None
    compile: bool = False
    data: Any = MISSING
    model: Any = MISSING
    loss: Any = MISSING
    optim: Any = MISSING
    schedule: Any = MISSING
    callbacks: Any = MISSING
    logger: Any = MISSING
    trainer: Any = MISSING


@dataclass
class EnsembleConfig:
    average: str = MISSING
    weights: str = MISSING


@dataclass
class PredictConfig:
    ckpt_path: Any = MISSING
    data: Any = None
    ensemble: EnsembleConfig = field(default_factory=EnsembleConfig)
    decode: Any = MISSING
    device: str = MISSING
    batch_size: int = MISSING


@dataclass
class ProbeConfig:
    frames: int = MISSING
    second: int = MISSING
    batch_size: int = MISSING


@dataclass
class DiagnoseConfig:
    ckpt_path: str = MISSING
    data: Any = None
    device: str = MISSING
    seed: int = MISSING
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    spectrum: str = MISSING
    parameters: list[str] | None = MISSING
    dtype: str | None = MISSING
    batchnorm: str = MISSING
    weight_decay: float = MISSING
    tolerance: float = MISSING
    gradient_tolerance: float | None = MISSING
    max_products: int | None = MISSING


SCHEMAS = {
    ("", "train"): TrainConfig,
    ("", "predict"): PredictConfig,
    ("", "diagnose"): DiagnoseConfig,
    ("data", "libriphone"): LibriphoneConfig,
    ("data", "timit11"): Timit11Config,
    ("model", "linear"): LinearConfig,
    ("model", "mlp"): MlpConfig,
    ("model", "recurrent"): RecurrentConfig,
    ("model", "tcn"): TcnConfig,
    ("model", "conformer"): ConformerConfig,
    ("loss", "cross_entropy"): CrossEntropyConfig,
    ("loss", "mse"): MseConfig,
    ("optim", "sgd"): SgdConfig,
    ("optim", "momentum"): MomentumConfig,
    ("optim", "adagrad"): AdagradConfig,
    ("optim", "rmsprop"): RmspropConfig,
    ("optim", "adam"): AdamConfig,
    ("schedule", "constant"): ScheduleConfig,
    ("schedule", "step"): StepConfig,
    ("schedule", "final"): FinalConfig,
    ("trainer", "trainer"): TrainerConfig,
    ("decode", "argmax"): ArgmaxConfig,
    ("decode", "median"): MedianConfig,
    ("decode", "hmm"): HmmConfig,
}


def register_schemas() -> None:
    """Make each dataclass known to Hydra as `schema/GROUP/NAME`, for the defaults lists in `conf/`."""
    store = ConfigStore.instance()
    for (group, name), node in SCHEMAS.items():
        store.store(group=f"schema/{group}".rstrip("/"), name=name, node=node, package=group or "_global_")
