"""The settings of each baseline of scikit-learn; where a name is scikit-learn's own, so is its meaning."""

from dataclasses import dataclass

from omegaconf import MISSING


@dataclass
class SolverConfig:
    name: str = MISSING
    tol: float = MISSING
    max_iter: int = MISSING


@dataclass
class LinearBaselineConfig(SolverConfig):
    C: float = MISSING


@dataclass
class MlpBaselineConfig(SolverConfig):
    depth: int = MISSING
    width: int = MISSING
    alpha: float = MISSING
    batch_size: int = MISSING
    learning_rate_init: float = MISSING
    n_iter_no_change: int = MISSING
