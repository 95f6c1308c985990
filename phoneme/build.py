"""The one place where a `_target_` becomes an object. No Hydra in here: settings are plain dictionaries."""

import difflib
import importlib
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from phoneme.errors import InputError


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint for a mistyped name: the nearest known one, then all of them.

    >>> did_you_mean("lrr", ["lr", "eps"])
    'did you mean lr? known here: eps, lr'
    """
    near = difflib.get_close_matches(word, list(known), n=1)
    listed = ", ".join(sorted(known)) or "nothing"
    return (f"did you mean {near[0]}? " if near else "") + f"known here: {listed}"


def build(settings: Mapping[str, Any], where: str, **extra: Any) -> Any:
    """Call the `_target_` of `settings` with its other keys, and with `extra`, which come from the code.

    `where` is the section's name for messages. Raises InputError when there is no `_target_`, when it cannot be
    imported, when a key is not an argument of it, and when an argument is missing.
    """
    if "_target_" not in settings:
        raise InputError(
            expected="a section with a _target_",
            got=f"the keys {sorted(settings)}",
            where=where,
            hint="_target_ is the dotted path of the class to build; to switch a section off set it to null",
        )
    target = settings["_target_"]
    given = {key: value for key, value in settings.items() if key != "_target_"}
    factory = locate(target, where)
    parameters = inspect.signature(factory).parameters.values()
    named = {p.name: p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
    for key in given:
        if key in extra or (key not in named and not open_ended):
            raise InputError(
                expected=f"an argument of {target}",
                got=key,
                where=f"{where}.{key}",
                hint=did_you_mean(key, named.keys() - extra.keys()),
            )
    missing = [name for name, p in named.items() if p.default is p.empty and name not in given | extra]
    if missing:
        raise InputError(
            expected=f"a value for each argument of {target}",
            got=f"none for {', '.join(missing)}",
            where=where,
            hint=f"set {where}.{missing[0]}=...",
        )
    return factory(**given, **extra)


def locate(target: str, where: str) -> Any:
    """Import the object at a dotted path; InputError when there is none."""
    module, _, name = target.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            expected="the dotted path of a class",
            got=target,
            where=f"{where}._target_",
            hint=f"it cannot be imported: {error}",
        ) from error
