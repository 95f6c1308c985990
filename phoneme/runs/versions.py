"""What a result was made with."""

import platform
from importlib.metadata import version

REPORTED = ("phoneme", "torch", "pytorch-lightning", "hydra-core", "numpy", "scikit-learn")


def versions() -> dict[str, str]:
    """Of Python and of the packages whose change could change a result."""
    return {"python": platform.python_version()} | {name: version(name) for name in REPORTED}
