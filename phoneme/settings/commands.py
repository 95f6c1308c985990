"""The settings of the commands, one dataclass each, and of how posteriors are decoded."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


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


@dataclass
class TrainConfig:
    seed: int = MISSING
    ckpt_path: str | None = None
    compile: bool = False
    data: Any = MISSING
    features: Any = MISSING
    augment: Any = MISSING
    model: Any = MISSING
    loss: Any = MISSING
    optim: Any = MISSING
    schedule: Any = MISSING
    callbacks: Any = MISSING
    logger: Any = MISSING
    trainer: Any = MISSING


@dataclass
class BaselineConfig:
    seed: int = MISSING
    frames: int = MISSING
    context: int = MISSING
    device: str = MISSING
    data: Any = MISSING
    features: Any = MISSING
    baseline: Any = MISSING
    loss: Any = MISSING


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


@dataclass
class SearchConfig:
    study: str = MISSING
    storage: str = MISSING
    new_study: bool = MISSING
    train: list[str] = MISSING
    space: Any = MISSING
    metric: str = MISSING
    direction: str = MISSING
    sampler: str = MISSING
    pruner: str = MISSING
    trials: int = MISSING
    timeout: float | None = MISSING
    seed: int = MISSING


@dataclass
class ExperimentConfig:
    name: str = MISSING
    seed: int = MISSING
    seeds: int | None = MISSING
    budget: str = MISSING
    jobs: int | None = MISSING
    gallery: str | None = MISSING


@dataclass
class LabConfig:
    ckpt_path: str | None = MISSING
    device: str = MISSING
    lab: Any = MISSING
    data: Any = MISSING
    features: Any = MISSING
    model: Any = MISSING
