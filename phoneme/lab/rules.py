"""When does a claim hold? Rules are fixed before the run: a number a seed, and where it has to lie.

A rule holds if the 95 % interval of the mean over the seeds (Student's t) lies inside its bounds, fails if it lies
outside, and is undecided where it crosses one: the budget was too small to tell. A rule about a closed form, `exact`,
needs no interval: all its values have to lie inside.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from scipy.stats import t as student

from phoneme.files import primitives

CONFIDENCE = 0.95
LEAST_SEEDS = 3  # of two seeds the interval is 13 deviations wide on each side of the mean
HOLDS, PARTLY, FAILS, UNDECIDED = "holds", "holds partly", "does not hold", "undecided"
VERDICTS = (HOLDS, PARTLY, FAILS, UNDECIDED)


@dataclass(frozen=True)
class Claim:
    """A row of the lecture as an experiment understands it, and what would refute it."""

    says: str
    refuted_by: str


@dataclass(frozen=True)
class Rule:
    """`effect`, one number a seed, has to lie above `above` and below `below`; `says` what it is, with its unit."""

    row: str
    effect: str
    says: str
    above: float | int = -math.inf
    below: float | int = math.inf
    exact: bool = False

    def __post_init__(self):
        bounded = self.above > -math.inf or self.below < math.inf
        assert bounded and self.above < self.below, f"{self.effect}: no value could break, or keep, this rule"

    def allows(self, value: float) -> bool:
        return self.above < value < self.below

    def excludes(self, low: float, high: float) -> bool:
        """Is all of [low, high] on the wrong side?"""
        return high <= self.above or low >= self.below


@dataclass(frozen=True)
class Ruling:
    """What a rule said of its values: their mean, the interval of the mean (None: there is none), the verdict."""

    rule: Rule
    values: tuple[float, ...]
    mean: float
    low: float | None
    high: float | None
    verdict: str

    def to_dict(self) -> dict[str, Any]:
        """Primitives for JSON; a bound that is infinite, and a value that is not finite, is None."""
        return primitives({**vars(self.rule), **{k: v for k, v in vars(self).items() if k != "rule"}})


def decide(rule: Rule, values: Sequence[float | int]) -> Ruling:
    """Hold a rule against its values, one a seed.

    >>> rule = Rule("G2", "gain", "accuracy gained", above=0.01)
    >>> [decide(rule, v).verdict for v in ([0.05, 0.06, 0.05], [0.0, 0.001, 0.0], [0.0, 0.05, 0.02], [0.05])]
    ['holds', 'does not hold', 'undecided', 'undecided']
    """
    seen = tuple(float(value) for value in values)
    if not seen or not all(map(math.isfinite, seen)):
        return Ruling(rule, seen, math.nan, None, None, UNDECIDED)
    mean = fmean(seen)
    if rule.exact:
        return Ruling(rule, seen, mean, None, None, HOLDS if all(map(rule.allows, seen)) else FAILS)
    if len(seen) < LEAST_SEEDS:
        return Ruling(rule, seen, mean, None, None, UNDECIDED)
    reach = float(student.ppf((1 + CONFIDENCE) / 2, len(seen) - 1)) * stdev(seen) / math.sqrt(len(seen))
    low, high = mean - reach, mean + reach
    if rule.allows(low) and rule.allows(high):
        return Ruling(rule, seen, mean, low, high, HOLDS)
    return Ruling(rule, seen, mean, low, high, FAILS if rule.excludes(low, high) else UNDECIDED)


def verdict_of(verdicts: Sequence[str]) -> str:
    """Of a row from those of its rules: what stays true however the undecided ones would turn out.

    >>> verdict_of(["holds", "holds"]), verdict_of(["holds", "does not hold", "undecided"])
    ('holds', 'holds partly')
    >>> verdict_of(["does not hold"]), verdict_of(["holds", "undecided"]), verdict_of(["does not hold", "undecided"])
    ('does not hold', 'undecided', 'undecided')
    """
    found = set(verdicts)
    if {HOLDS, FAILS} <= found:
        return PARTLY
    return found.pop() if len(found) == 1 else UNDECIDED
