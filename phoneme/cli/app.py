"""What every command shares: Hydra in front, one clear message and a non-zero exit when something is wrong."""

import logging
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from phoneme.cli.explain import check_flags, explain
from phoneme.config import CONF, refuse_unknown_keys, register_schemas

log = logging.getLogger(__name__)

INTERRUPTED = 130  # the shell's exit code for Ctrl-C: 128 + SIGINT
RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")  # the number of a process: by torchrun, Lightning, SLURM


@dataclass(frozen=True)
class Job:
    """One composed job of a command, in plain dictionaries and paths."""

    settings: dict[str, Any]  # every interpolation resolved
    portable: dict[str, Any]  # interpolations kept: means the same on another machine
    folder: Path  # the run directory
    multirun: bool  # one of many jobs of `-m`


def run(task: Callable[[Job], None], config_name: str) -> None:
    """Compose `conf/CONFIG_NAME.yaml` with the command line, then call `task(job)`.

    The process exits with 0, 1 (an error, explained in one message), 130 (Ctrl-C) or 143 (SIGTERM in training).
    A job of a multirun that fails does not keep the others from running.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands its exceptions over instead of printing them
    if _process() > 0:
        _leave_talking_to_the_first_process()
    register_schemas()
    failed = False

    def job(cfg: DictConfig) -> None:
        try:
            task(_job(cfg))
        except Exception as error:  # Hydra would print a line of its own
            nonlocal failed
            failed = True
            _report(error)

    job.__module__ = f"phoneme.cli.{config_name}"  # Hydra names the job and its log after it
    try:
        check_flags(sys.argv[1:])
        hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(job)()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:
        failed = True
        _report(error)
    if failed:
        sys.exit(1)


def _job(cfg: DictConfig) -> Job:
    refuse_unknown_keys(cfg)
    state = HydraConfig.get()
    multirun = state.mode is RunMode.MULTIRUN
    if (swept := state.sweeper.get("params")) and not multirun:
        listed = " ".join(f"{name}={values}" for name, values in swept.items())
        log.warning("this experiment is a sweep over %s: with -m all of them, without it one run as configured", listed)
    return Job(
        settings=OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True),
        portable=OmegaConf.to_container(cfg, resolve=False),
        folder=Path(state.runtime.output_dir),
        multirun=multirun,
    )


def _process() -> int:
    """The number of this process among those that train one model together; the first is 0."""
    return next((int(os.environ[name]) for name in RANKS if name in os.environ), 0)


def _leave_talking_to_the_first_process() -> None:
    """All processes have the same to say, and one run directory."""
    logging.disable(logging.WARNING)
    sys.argv.append("hydra.output_subdir=null")


def _report(error: Exception) -> None:
    if os.environ.get("PHONEME_TRACEBACK"):
        traceback.print_exception(error)
    print(f"error{_which()}: {explain(error)}", file=sys.stderr)


def _which() -> str:
    """Whose error it is, if there are several processes or jobs."""
    if _process():
        return f" in process {_process()}"
    if HydraConfig.initialized() and HydraConfig.get().mode is RunMode.MULTIRUN:
        return f" in job {HydraConfig.get().job.num}"
    return ""
