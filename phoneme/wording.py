"""How numbers are written, in pictures and on pages."""

import math
from typing import Any

DIGITS = 8  # of an interval's ends: of a narrower one nothing could be seen anyway


def digits(value: int | float, significant: int = 3) -> str:
    """A number to three significant digits, with a true minus sign; from 10,000 on with commas.

    >>> digits(-0.000012345), digits(12345.0), digits(0.5), digits(1.2e7)
    ('−1.23e-5', '12,300', '0.5', '1.2e7')
    """
    mantissa, e, exponent = f"{float(f'{value:.{significant}g}'):.{max(significant, 6)}g}".partition("e")
    if not e and abs(value) >= 10_000:
        mantissa = f"{float(mantissa):,.0f}"
    return mantissa.replace("-", "−") + (e + str(int(exponent)) if e else "")


def with_bound(extreme: dict[str, Any]) -> str:
    """An eigenvalue and its error bound.

    >>> with_bound({"value": -0.42, "bound": 0.0123})
    '−0.42 ± 0.01'
    """
    bound = extreme["bound"]
    return digits(extreme["value"]) + (f" ± {digits(bound, 1)}" if bound else "")


def ends(low: int | float, high: int | float) -> tuple[str, str]:
    """Both ends of an interval, to three digits or to as many as tell them apart, if these are not more than DIGITS.

    >>> ends(21.2787, 21.3213), ends(-0.428, 0.412)
    (('21.28', '21.32'), ('−0.428', '0.412'))
    """
    width, size = high - low, max(abs(low), abs(high))
    needed = math.ceil(math.log10(size / width)) + 1 if width > 0 else 0
    significant = needed if 3 < needed <= DIGITS else 3
    return digits(low, significant), digits(high, significant)


def interval(low: int | float, high: int | float) -> str:
    """
    >>> interval(-0.428, 0.412)
    '[−0.428, 0.412]'
    """
    return "[{}, {}]".format(*ends(low, high))


def percent(share: dict[str, int | float]) -> str:
    """A share in percent, as an interval unless both ends are one.

    >>> percent({"low": 0.1352, "high": 0.1352}), percent({"low": 0.5, "high": 0.625})
    ('13.5 %', '50 to 62.5 %')
    """
    low, high = (digits(100 * share[end]) for end in ("low", "high"))
    return f"{low} %" if share["low"] == share["high"] else f"{low} to {high} %"
