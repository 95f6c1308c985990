"""In which numbers a training computes."""

import logging

import torch

from phoneme.errors import InputError

log = logging.getLogger(__name__)

PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")


def check_precision(name: str) -> None:
    """Raise InputError unless it is one of `PRECISIONS`."""
    if name not in PRECISIONS:
        raise InputError(
            expected=" or ".join(PRECISIONS),
            got=name,
            where="trainer.precision",
            hint="mixed precision keeps the weights in float32; windows are gathered in float32",
        )


def pick_precision(name: str, accelerator: str) -> str:
    """Lightning's word for the precision; "auto" is bfloat16 where the device has instructions for it, else float32.

    `accelerator` is Lightning's. bfloat16 without instructions is slower than float32 (an LSTM of 2 x 128 on one core
    held to AVX2: nine times), so where it is asked for nevertheless a warning says so.
    """
    if name == "auto":
        return "bf16-mixed" if has_bfloat16(accelerator) else "32-true"
    if name == "bf16-mixed" and not has_bfloat16(accelerator):
        log.warning("this device has no bfloat16 instructions: trainer.precision=32-true or auto will be faster")
    return name


def has_bfloat16(accelerator: str) -> bool:
    """Whether the device that Lightning's `accelerator` stands for computes in bfloat16 itself.

    True of GPUs by Nvidia from Ampere on and of x86 processors with AVX512_BF16; of others it is not known here, which
    counts as no.
    """
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if accelerator == "cpu" or (accelerator == "auto" and not torch.accelerator.is_available()):
        return torch.cpu._is_avx512_bf16_supported()
    return False
