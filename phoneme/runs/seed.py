"""The seed of a run."""

from phoneme.errors import InputError


def check_seed(seed: int) -> None:
    """Raise InputError for a seed that numpy's generators do not take."""
    if not 0 <= seed < 2**32:
        raise InputError(
            expected="a seed from 0 to 2^32 - 1", got=seed, where="seed", hint="runs differ already between 0, 1 and 2"
        )
