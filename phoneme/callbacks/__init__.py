"""Lightning callbacks, each thin: when something happens, and a call into the layer that does it."""

from phoneme.callbacks.averaging import WeightAverage
from phoneme.callbacks.checkpoint import Checkpoint
from phoneme.callbacks.critical_point import CriticalPointMonitor
from phoneme.callbacks.epoch_lines import EpochLines
from phoneme.callbacks.gradient_logger import GradientLogger
from phoneme.callbacks.report import Pruned, Report
from phoneme.callbacks.throughput import Throughput, peak_memory
from phoneme.callbacks.warmup import LearningRateWarmup

__all__ = [
    "Checkpoint",
    "CriticalPointMonitor",
    "EpochLines",
    "GradientLogger",
    "LearningRateWarmup",
    "Pruned",
    "Report",
    "Throughput",
    "WeightAverage",
    "peak_memory",
]
