"""Files of a run directory, written whole or not at all; and what JSON can hold."""

import json
import math
import os
from pathlib import Path
from typing import Any

import torch


def write_text(path: Path, text: str) -> Path:
    """Write beside the target, then rename; the folder is made. The same path comes back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def write_json(path: Path, content: dict[str, Any]) -> Path:
    """`content` as JSON, indented. Raises ValueError for NaN and infinity: see `primitives`."""
    return write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_tensors(path: Path, content: Any) -> Path:
    """By `torch.save`, on disk before it takes the name. Raises OSError, also where torch covers a full disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        cause = error.__context__ if isinstance(error, RuntimeError) else error
        if isinstance(cause, OSError):
            raise OSError(cause.errno, cause.strerror, str(path)) from error
        raise
    finally:
        partial.unlink(missing_ok=True)
    return path


def primitives(value: Any) -> Any:
    """Lists, dictionaries and numbers for JSON, which has no NaN and no infinity (None) and whose keys are text.

    Tensors and arrays become lists; what has a `to_dict` becomes that.

    >>> primitives({"losses": (1.0, float("inf")), "name": "x"})
    {'losses': [1.0, None], 'name': 'x'}
    """
    if hasattr(value, "to_dict"):
        value = value.to_dict()
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): primitives(part) for key, part in value.items()}
    if isinstance(value, (tuple, list)):
        return [primitives(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
