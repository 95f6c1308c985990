"""What one may ask of `analyse`."""

import math
from dataclasses import dataclass

from phoneme.build import did_you_mean
from phoneme.errors import InputError

SPECTRA = ("auto", "extremes", "probes", "exact")
LEADING = 5  # the largest eigenvalues that are reported


@dataclass(frozen=True)
class Settings:
    """The arguments of `analyse` that are about the answer. Raises InputError where one is out of range."""

    spectrum: str
    tolerance: float
    gradient_tolerance: int | float | None
    max_products: int | None
    seed: int
    failure: float = 1e-3

    def __post_init__(self) -> None:
        norm, most = self.gradient_tolerance, self.max_products
        known = did_you_mean(str(self.spectrum), SPECTRA)
        self._check(self.spectrum in SPECTRA, "spectrum", "one of auto, extremes, probes, exact", known)
        self._check(0 < self.tolerance < 1, "tolerance", "a share in (0, 1)", "1e-3 is usual")
        self._check(
            norm is None or 0 <= norm < math.inf,
            "gradient_tolerance",
            "a norm of 0 or more",
            "leave it out for a thousandth of what the loss and its curvature allow",
        )
        self._check(
            most is None or most > LEADING,
            "max_products",
            f"more than {LEADING} products",
            "leave it out for a number that suits the size",
        )
        self._check(0 <= self.seed < 2**63, "seed", "a number from 0 on", "0, 1, 2: runs differ already between these")
        self._check(0 < self.failure < 1, "failure", "a probability in (0, 1)", "1e-3: wrong once in a thousand runs")

    def _check(self, good: bool, name: str, expected: str, hint: str) -> None:
        if not good:
            raise InputError(expected=expected, got=getattr(self, name), where=name, hint=hint)
