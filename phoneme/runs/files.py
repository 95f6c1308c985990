"""The files of a run directory that are not pictures."""

import json
import os
import platform
import resource
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

REPORTED = ("phoneme", "torch", "pytorch-lightning", "hydra-core", "numpy")


def write_json(path: Path, content: dict[str, Any]) -> Path:
    """Write `content` under `path`, whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(content, indent=2) + "\n")
    partial.replace(path)
    return path


def versions() -> dict[str, str]:
    """Of Python and of the packages whose change could change a result."""
    return {"python": platform.python_version()} | {name: version(name) for name in REPORTED}


def peak_memory(device: torch.device) -> dict[str, float]:
    """The process's largest resident set so far, and on CUDA the most memory its tensors took, in GiB."""
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes on macOS, KiB on Linux
    peak = {"peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30}
    if device.type == "cuda":
        peak["peak_gpu_memory_gib"] = torch.cuda.max_memory_allocated(device) / 2**30
    return {name: round(gib, 3) for name, gib in peak.items()}
