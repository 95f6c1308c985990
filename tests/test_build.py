"""One call site builds everything, and says what is wrong with a section."""

import pytest

from phoneme.build import build
from phoneme.errors import InputError


def test_builds_with_settings_and_extras():
    built = build({"_target_": "fractions.Fraction", "numerator": 3}, "x", denominator=4)
    assert (built.numerator, built.denominator) == (3, 4)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"numerator": 1}, r"a section with a _target_, got the keys \['numerator'\]\n  where: callbacks.x"),
        (
            {"_target_": "phoneme.nowhere.Thing"},
            r"dotted path of a class, got phoneme.nowhere.Thing\n  where: callbacks.x._target_",
        ),
        ({"_target_": "Thing"}, r"dotted path of a class, got Thing"),
        (
            {"_target_": "fractions.Fraction", "numeratr": 1},
            r"got numeratr\n  where: callbacks.x.numeratr\n  hint: did you mean numerator\?",
        ),
    ],
)
def test_says_what_is_wrong(settings, message):
    with pytest.raises(InputError, match=message):
        build(settings, "callbacks.x")


def test_a_missing_argument_is_named():
    with pytest.raises(
        InputError, match=r"none for filename\n  where: callbacks.best\n  hint: set callbacks.best.filename"
    ):
        build({"_target_": "phoneme.callbacks.Checkpoint", "dirpath": "d"}, "callbacks.best")


def test_an_argument_that_the_code_gives_cannot_be_set():
    with pytest.raises(InputError, match=r"got denominator"):
        build({"_target_": "fractions.Fraction", "denominator": 2}, "x", denominator=4)
