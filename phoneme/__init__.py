"""Framewise phoneme classification from speech, and the laboratory for "what if my network fails to train".

`phoneme.load(path)` gives back a trained model from a checkpoint. Nothing heavy is imported before it is asked for.
"""

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str):
    if name == "load":
        from phoneme.checkpoint import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
