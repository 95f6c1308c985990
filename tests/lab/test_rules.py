"""Rules are fixed before the run and decide by it: nothing holds by itself."""

import math

import pytest
from scipy import stats

from phoneme.lab.experiments import NAMES, find
from phoneme.lab.lecture import ROWS
from phoneme.lab.rules import Claim, Rule, decide, verdict_of

RULE = Rule("G2", "gain", "accuracy gained", above=0.1, below=0.9)


def test_the_interval_is_students():
    values = [0.3, 0.5, 0.4, 0.7]
    found = decide(RULE, values)
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert math.isclose(found.low, expected.low) and math.isclose(found.high, expected.high)


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([0.5, 0.52, 0.48], "holds"),
        ([0.01, 0.02, 0.0], "does not hold"),
        ([0.95, 0.96, 0.97], "does not hold"),
        ([0.0, 0.4, 0.2], "undecided"),
        ([0.5, 0.52], "undecided"),
        ([], "undecided"),
        ([0.5, math.nan, 0.5], "undecided"),
        ([0.5, math.inf, 0.5], "undecided"),
        ([0.5, 0.5, 0.5], "holds"),
    ],
)
def test_a_rule_decides_by_its_interval(values, verdict):
    assert decide(RULE, values).verdict == verdict


def test_an_exact_rule_needs_no_seeds_but_every_value():
    rule = Rule("B5", "value", "eigenvalue", above=1.99, below=2.01, exact=True)
    assert [decide(rule, v).verdict for v in ([2.0], [2.0, 2.1], [math.nan])] == ["holds", "does not hold", "undecided"]


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (["holds", "holds"], "holds"),
        (["holds", "does not hold"], "holds partly"),
        (["holds", "does not hold", "undecided"], "holds partly"),
        (["does not hold", "does not hold"], "does not hold"),
        (["does not hold", "undecided"], "undecided"),
        (["holds", "undecided"], "undecided"),
        (["undecided"], "undecided"),
    ],
)
def test_a_row_gets_what_stays_true_however_the_rest_turns_out(verdicts, expected):
    assert verdict_of(verdicts) == expected


@pytest.mark.parametrize("name", NAMES)
def test_every_rule_can_be_kept_and_broken(name):
    for rule in find(name).rules:
        edge = rule.above if math.isfinite(rule.above) else rule.below
        inside = (rule.above + rule.below) / 2 if math.isfinite(rule.above + rule.below) else None
        if inside is None:
            inside = edge + 1 if math.isfinite(rule.above) else edge - 1
        outside = edge - 1 if math.isfinite(rule.above) else edge + 1
        assert decide(rule, [inside] * 3).verdict == "holds"
        assert decide(rule, [outside] * 3).verdict == "does not hold"


@pytest.mark.parametrize("name", NAMES)
def test_every_claim_says_what_would_refute_it(name):
    experiment = find(name)
    assert experiment.name == name and experiment.title
    for row, claim in experiment.claims.items():
        assert isinstance(claim, Claim) and row in ROWS and claim.says and claim.refuted_by
    assert all(rule.says for rule in experiment.rules)


def test_no_row_is_carried_twice():
    rows = [row for name in NAMES for row in find(name).claims]
    assert len(rows) == len(set(rows))
