"""The device that a command works on."""

import torch

from phoneme.errors import InputError


def pick_device(name: str) -> torch.device:
    """The accelerator that is there for "auto", else what is asked for. Raises InputError if that is not here."""
    if name != "auto":
        try:
            return torch.zeros(0, device=name).device
        except (RuntimeError, AssertionError) as error:
            raise InputError(
                expected="auto, cpu, or a device that is here",
                got=name,
                where="device",
                hint=str(error).splitlines()[0],
            ) from error
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator or torch.device("cpu")
