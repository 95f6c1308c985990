"""Lightning callbacks, each thin: when something happens, and a call into the layer that does it."""

from phoneme.callbacks.checkpoint import Checkpoint
from phoneme.callbacks.epoch_lines import EpochLines
from phoneme.callbacks.throughput import Throughput

__all__ = ["Checkpoint", "EpochLines", "Throughput"]
