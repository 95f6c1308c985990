"""A command's configuration from overrides, in a process that is not that command."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from phoneme.config import CONF, refuse_unknown_keys, register_schemas


def compose_job(command: str, overrides: Sequence[str], folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """`settings` and `portable` of a job of `command` ("train", "predict", …), as the command line composes them.

    `folder` becomes Hydra's run directory for this process.
    """
    config = _compose(command, overrides)
    with open_dict(config):
        config.hydra.runtime.output_dir = str(folder)
        HydraConfig.instance().set_config(config)
        del config["hydra"]
    return (
        OmegaConf.to_container(config, resolve=True, throw_on_missing=True),
        OmegaConf.to_container(config, resolve=False),
    )


def compose_sections(overrides: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
    """Some sections of a training's configuration, as this process's own run directory is none of a training."""
    config = _compose("train", overrides)
    return {
        name: OmegaConf.to_container(config[name], resolve=True, throw_on_missing=True)
        if isinstance(config[name], DictConfig)
        else config[name]
        for name in names
    }


def _compose(command: str, overrides: Sequence[str]) -> DictConfig:
    register_schemas()
    GlobalHydra.instance().clear()  # a command's own, which has done its work
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(command, list(overrides), return_hydra_config=True)
    job = config.copy()
    with open_dict(job):
        del job["hydra"]
    refuse_unknown_keys(job)
    return config
