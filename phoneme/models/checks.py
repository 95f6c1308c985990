"""What the settings of a model are held to, each with the key in its error."""

from phoneme.errors import InputError


def check_at_least(name: str, value: int, least: int, hint: str) -> None:
    """Raises InputError, naming `model.NAME`, for a value below `least`."""
    if value < least:
        raise InputError(expected=f"at least {least}", got=value, where=f"model.{name}", hint=hint)


def check_kernel(name: str, kernel: int) -> None:
    """Raises InputError, naming `model.NAME`, for a kernel without centre."""
    if kernel < 1 or kernel % 2 == 0:
        raise InputError(
            expected="an odd number of frames",
            got=kernel,
            where=f"model.{name}",
            hint="the centre frame counts too: 5 is two frames on each side",
        )


def check_dropout(dropout: float) -> None:
    """Raises InputError for a share of units outside [0, 1)."""
    if not 0.0 <= dropout < 1.0:
        raise InputError(
            expected="a probability in [0, 1)",
            got=dropout,
            where="model.dropout",
            hint="the share of units set to zero in training: 0.1 to 0.5 are usual",
        )
