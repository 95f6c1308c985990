"""The settings of the data section of a configuration, and of the features."""

from dataclasses import dataclass, field

from omegaconf import MISSING


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
    batch_utterances: int | None = MISSING
    train_score_share: float = MISSING
    sample_submission: str | None = MISSING
    split: SplitConfig = field(default_factory=SplitConfig)


@dataclass
class LibriphoneConfig(DataConfig):
    speaker_pattern: str = MISSING


@dataclass
class Timit11Config(DataConfig):
    pass


@dataclass
class AudioConfig(DataConfig):
    speaker_pattern: str = MISSING
    speeds: list[float] = MISSING
    noise_snr_db: float | None = MISSING


@dataclass
class FeaturesConfig:
    name: str = MISSING
    normalise: str = MISSING


@dataclass
class LogMelConfig(FeaturesConfig):
    bins: int = MISSING
