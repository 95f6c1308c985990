"""The law of the configuration: a dataclass for every section (`phoneme.settings`).

The YAML files under `conf/` are the surface; each names its dataclass in its defaults list, so a wrong name or a wrong
type is refused while the configuration is composed, before torch is imported.
"""

from dataclasses import fields, is_dataclass
from pathlib import Path

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from phoneme.build import did_you_mean
from phoneme.errors import InputError
from phoneme.settings.baseline import LinearBaselineConfig, MlpBaselineConfig
from phoneme.settings.commands import (
    ArgmaxConfig,
    BaselineConfig,
    DiagnoseConfig,
    ExperimentConfig,
    HmmConfig,
    LabConfig,
    MedianConfig,
    PredictConfig,
    SearchConfig,
    TrainConfig,
)
from phoneme.settings.data import AudioConfig, FeaturesConfig, LibriphoneConfig, LogMelConfig, Timit11Config
from phoneme.settings.model import (
    ConformerConfig,
    LinearConfig,
    MlpConfig,
    RecurrentConfig,
    TcnConfig,
    WindowedRecurrentConfig,
)
from phoneme.settings.training import (
    AdagradConfig,
    AdamConfig,
    AugmentConfig,
    CrossEntropyConfig,
    FinalConfig,
    LarsConfig,
    MomentumConfig,
    MseConfig,
    RmspropConfig,
    ScheduleConfig,
    SgdConfig,
    StepConfig,
    TrainerConfig,
)

PACKAGE = Path(__file__).resolve().parent
REPOSITORY = PACKAGE.parent


def shipped(name: str) -> Path:
    """A folder that travels with the code: inside the package in a wheel, beside it in a checkout."""
    return next(p for p in (PACKAGE / name, REPOSITORY / name) if p.is_dir())


CONF = shipped("conf")

OmegaConf.register_new_resolver("bundled_sample", lambda: str(shipped("data/sample")), replace=True)
OmegaConf.register_new_resolver("bundled_accented", lambda: str(shipped("data/accented")), replace=True)

SCHEMAS = {
    ("", "train"): TrainConfig,
    ("", "predict"): PredictConfig,
    ("", "diagnose"): DiagnoseConfig,
    ("", "baseline"): BaselineConfig,
    ("", "search"): SearchConfig,
    ("", "lab"): LabConfig,
    ("data", "libriphone"): LibriphoneConfig,
    ("data", "timit11"): Timit11Config,
    ("data", "audio"): AudioConfig,
    ("features", "features"): FeaturesConfig,
    ("features", "logmel"): LogMelConfig,
    ("augment", "augment"): AugmentConfig,
    ("model", "linear"): LinearConfig,
    ("model", "mlp"): MlpConfig,
    ("model", "recurrent"): RecurrentConfig,
    ("model", "windowed_recurrent"): WindowedRecurrentConfig,
    ("model", "tcn"): TcnConfig,
    ("model", "conformer"): ConformerConfig,
    ("loss", "cross_entropy"): CrossEntropyConfig,
    ("loss", "mse"): MseConfig,
    ("optim", "sgd"): SgdConfig,
    ("optim", "momentum"): MomentumConfig,
    ("optim", "adagrad"): AdagradConfig,
    ("optim", "rmsprop"): RmspropConfig,
    ("optim", "adam"): AdamConfig,
    ("optim", "lars"): LarsConfig,
    ("schedule", "constant"): ScheduleConfig,
    ("schedule", "step"): StepConfig,
    ("schedule", "final"): FinalConfig,
    ("trainer", "trainer"): TrainerConfig,
    ("decode", "argmax"): ArgmaxConfig,
    ("decode", "median"): MedianConfig,
    ("decode", "hmm"): HmmConfig,
    ("baseline", "linear"): LinearBaselineConfig,
    ("baseline", "mlp"): MlpBaselineConfig,
    ("lab", "experiment"): ExperimentConfig,
}


def register_schemas() -> None:
    """Make each dataclass known to Hydra as `schema/GROUP/NAME`, for the defaults lists in `conf/`."""
    store = ConfigStore.instance()
    for (group, name), node in SCHEMAS.items():
        store.store(group=f"schema/{group}".rstrip("/"), name=name, node=node, package=group or "_global_")


def refuse_unknown_keys(config: DictConfig, where: str = "") -> None:
    """Raise InputError for a key that its section's dataclass does not have (`+section.key=value` slips past Hydra)."""
    schema = OmegaConf.get_type(config)
    known = [f.name for f in fields(schema)] if is_dataclass(schema) else list(config)
    for key in config:
        path = f"{where}.{key}".lstrip(".")
        if key not in known:
            raise InputError(
                expected="a known setting",
                got=path,
                where="the command line or a YAML file",
                hint=did_you_mean(str(key), known),
            )
        node = config._get_node(key)
        if isinstance(node, DictConfig) and not node._is_none() and not node._is_missing():
            refuse_unknown_keys(node, path)
