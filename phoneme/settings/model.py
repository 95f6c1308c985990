"""The settings of each model: the part of `config.py` that grows with every family. Imported without torch."""

from dataclasses import dataclass

from omegaconf import MISSING


@dataclass
class LinearConfig:
    _target_: str = "phoneme.models.Linear"
    context: int = MISSING


@dataclass
class MlpConfig:
    _target_: str = "phoneme.models.Mlp"
    context: int = MISSING
    depth: int = MISSING
    width: int | None = None
    parameters: int | None = None
    norm: str = MISSING
    activation: str = MISSING
    dropout: float = MISSING
    residual: bool = MISSING


@dataclass
class SequenceConfig:
    width: int = MISSING
    depth: int = MISSING
    norm: str = MISSING
    dropout: float = MISSING
    front_depth: int = MISSING
    front_kernel: int = MISSING


@dataclass
class RecurrentConfig(SequenceConfig):
    _target_: str = "phoneme.models.Recurrent"
    cell: str = MISSING
    masked: bool = MISSING


@dataclass
class WindowedRecurrentConfig:
    _target_: str = "phoneme.models.WindowedRecurrent"
    context: int = MISSING
    cell: str = MISSING
    width: int = MISSING
    depth: int = MISSING
    step: str = MISSING
    dropout: float = MISSING


@dataclass
class TcnConfig(SequenceConfig):
    _target_: str = "phoneme.models.Tcn"
    kernel: int = MISSING
    cycle: int = MISSING
    separable: bool = MISSING


@dataclass
class ConformerConfig(SequenceConfig):
    _target_: str = "phoneme.models.Conformer"
    heads: int = MISSING
    expansion: int = MISSING
    kernel: int = MISSING
