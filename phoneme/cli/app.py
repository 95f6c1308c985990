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
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from phoneme.build import did_you_mean
from phoneme.config import CONF, refuse_unknown_keys, register_schemas
from phoneme.errors import InputError, PhonemeError

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


def explain(error: Exception) -> str:
    """The message a user reads for an exception of ours, of Hydra or of the operating system."""
    if isinstance(error, PhonemeError):
        return str(error)
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return _explain_composition(error)
    if isinstance(error, OSError):
        return str(
            InputError(
                expected="a file or folder that can be read or written",
                got=error.strerror or error,
                where=error.filename or "the operating system",
                hint="check the path, its permissions and the free disk space (df -h)",
            )
        )
    if type(error).__name__ == "MisconfigurationException":  # Lightning's, which is not imported here
        return f"{error}\n  where: the trainer or a callback\n  hint: phoneme-train --cfg job shows every setting"
    return f"{type(error).__name__}: {error}\n  hint: PHONEME_TRACEBACK=1 shows where; this may be a bug of phoneme"


def _explain_composition(error: Exception) -> str:
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    if isinstance(error, OverrideParseException):
        return str(
            InputError(
                expected="NAME=VALUE",
                got=error.override,
                where="the command line",
                hint="a value with ~ or another special sign needs quotes inside quotes: 'data.root=\"~/data\"'",
            )
        )
    if not isinstance(cause, OmegaConfBaseException) or not cause.full_key:
        return f"{error}\n  where: the command line or a file under {CONF.name}/\n  hint: --help lists the groups"
    parent, key = cause.parent_node, str(cause.key)
    known = [str(k) for k in parent] if isinstance(parent, DictConfig) and not parent._is_none() else []
    if known and key not in known:
        return str(
            InputError(
                expected="a known setting",
                got=cause.full_key,
                where="the command line or a YAML file",
                hint=did_you_mean(key, known),
            )
        )
    return str(
        InputError(
            expected="a value of the setting's type",
            got=str(cause.msg).splitlines()[0],
            where=cause.full_key,
            hint="--cfg job shows every setting with its value, --help what they are for",
        )
    )
