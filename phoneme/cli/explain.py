"""The one message a user reads when something is wrong, whoever found it: we, Hydra, Lightning or the system."""

import difflib
from collections.abc import Iterator, Sequence

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from phoneme.build import did_you_mean
from phoneme.config import CONF
from phoneme.errors import InputError, PhonemeError

COMMAND_LINE = "the command line"
SHARED = "common"  # what the choices of a group have in common is none of them
FLAGS = (  # of Hydra; argparse takes their beginnings too
    *("--help", "--hydra-help", "--version", "--cfg", "--resolve", "--package", "--run", "--multirun", "--info"),
    *("--shell-completion", "--config-path", "--config-name", "--config-dir", "--experimental-rerun"),
)


def check_flags(arguments: Sequence[str]) -> None:
    """Raise InputError for a setting that is written as a flag: Hydra's parser would print its own usage."""
    flags = [argument.partition("=")[0] for argument in arguments if argument.startswith("--")]
    for flag in flags:
        if not any(known.startswith(flag) for known in FLAGS):
            raise InputError(
                expected="settings as NAME=VALUE",
                got=flag,
                where=COMMAND_LINE,
                hint="without dashes, e.g. trainer.max_epochs=10; --help lists the settings",
            )
    if {"-m", "--multirun"} & set(arguments) and {"-c", "--cfg"} & {*flags, *arguments}:
        raise InputError(
            expected="--cfg of one job",
            got="--cfg beside -m",
            where=COMMAND_LINE,
            hint="leave out -m: what is shown is each job but for what the sweep varies",
        )


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
    if isinstance(error, OverrideParseException):
        hint = "a value with ~ or another special sign needs quotes inside quotes: 'data.root=\"~/data\"'"
        if error.override.endswith(".ckpt") and "=" not in error.override:
            hint = f"ckpt_path={error.override}"
        return str(InputError(expected="NAME=VALUE", got=error.override, where=COMMAND_LINE, hint=hint))
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, name = error.missing_cfg_file.rpartition("/")
        return str(
            InputError(
                expected=f"a choice of {group}",
                got=name,
                where=f"{group}={name}",
                hint=did_you_mean(name, [option for option in error.options if option != SHARED]),
            )
        )
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    if not isinstance(cause, OmegaConfBaseException) or not cause.full_key:
        return f"{error}\n  where: the command line or a file under {CONF.name}/\n  hint: --help lists the groups"
    return str(_explain_setting(cause))


def _explain_setting(cause: OmegaConfBaseException) -> InputError:
    parent, key, full = cause.parent_node, str(cause.key), cause.full_key
    if isinstance(cause, MissingMandatoryValue):
        return InputError(
            expected=f"a value for {full}", got="none", where=COMMAND_LINE, hint=f"it has no default: {full}=…"
        )
    known = [str(k) for k in parent] if isinstance(parent, DictConfig) and not parent._is_none() else []
    if known and key not in known:
        return InputError(
            expected="a known setting",
            got=full,
            where="the command line or a YAML file",
            hint=_nearest(key, known, parent._get_root()),
        )
    if not known and "." in full:
        group = full.rpartition(".")[0]
        return InputError(
            expected=f"a choice of {group} before its settings",
            got=full,
            where=COMMAND_LINE,
            hint=f"say which {group}: {group}=NAME {full}=…; --help lists the names",
        )
    return InputError(
        expected="a value of the setting's type",
        got=str(cause.msg).splitlines()[0],
        where=full,
        hint=f"--cfg job shows every setting with its value, the files under {CONF.name}/ say what each is for",
    )


def _nearest(key: str, known: Sequence[str], root: DictConfig) -> str:
    """A hint: what is spelt alike beside the key, or what has its name elsewhere (lr: optim.lr)."""
    if not difflib.get_close_matches(key, known, n=1):
        names = dict.fromkeys(path for path in _paths(root) if "." in path)
        near = difflib.get_close_matches(key, [path.rpartition(".")[2] for path in names], n=1, cutoff=0.7)
        found = [path for path in names if near and path.rpartition(".")[2] == near[0]]
        if found:
            return f"did you mean {' or '.join(found[:3])}?"
    return did_you_mean(key, known)


def _paths(node: DictConfig, prefix: str = "") -> Iterator[str]:
    """The dotted names of all settings."""
    for key in node:
        path = f"{prefix}{key}"
        yield path
        if isinstance(child := node._get_node(key), DictConfig) and not (child._is_none() or child._is_missing()):
            yield from _paths(child, f"{path}.")
