"""The trials of a study as plain rows: for search.csv, the picture and the terminal."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from phoneme.search.space import Value
from phoneme.search.study import REPEATS, SURPLUS
from phoneme.wording import digits

STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


@dataclass(frozen=True)
class Row:
    """One trial. `value` is the best of its epochs; None if there was none."""

    number: int
    state: str  # one of STATES, or interrupted: another trial repeats its point
    value: float | None
    parameters: dict[str, Value]
    seconds: float | None  # of a finished trial
    folder: str | None
    error: str | None
    train: list[str]  # the fixed overrides it was run with


def rows_of(study: optuna.Study) -> list[Row]:
    """All trials by number, without those that came too many."""
    trials = study.get_trials(deepcopy=False)
    repeated = {trial.user_attrs.get(REPEATS) for trial in trials}
    best = max if study.direction is optuna.study.StudyDirection.MAXIMIZE else min
    return [_row(t, "interrupted" if t.number in repeated else STATES[t.state], best) for t in trials if _counts(t)]


def _counts(trial: FrozenTrial) -> bool:
    return SURPLUS not in trial.user_attrs


def _row(trial: FrozenTrial, state: str, best: Any) -> Row:
    return Row(
        number=trial.number,
        state=state,
        value=best(trial.intermediate_values.values(), default=None) if state != "failed" else None,
        parameters=dict(trial.params),
        seconds=round(trial.duration.total_seconds(), 1) if trial.duration else None,
        folder=trial.user_attrs.get("folder"),
        error=trial.user_attrs.get("error"),
        train=trial.user_attrs.get("train", []),
    )


def best_rows(rows: list[Row], direction: str, count: int) -> list[Row]:
    """The best of the complete trials, best first; the earlier of two equal ones."""
    complete = [row for row in rows if row.state == "complete"]
    return sorted(complete, key=lambda row: row.value, reverse=direction == "maximize")[:count]


def table(rows: list[Row], metric: str) -> list[str]:
    """Lines for a terminal: number, value and parameters, in columns."""
    names = list(rows[0].parameters)
    cells = [["trial", metric, *names]]
    cells += [[str(row.number), f"{row.value:.4f}", *(shown(row.parameters[n]) for n in names)] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells]


def shown(value: Value) -> str:
    """A value to three digits where it is a float.

    >>> shown(0.00123456), shown(512), shown("gru"), shown(None)
    ('0.00123', '512', 'gru', 'null')
    """
    if value is None:
        return "null"
    return digits(value) if isinstance(value, float) else str(value)


def flat(row: Row, names: Mapping[str, Any]) -> dict[str, Any]:
    """A line of search.csv: the parameters of the space as columns of their own."""
    return {
        "number": row.number,
        "state": row.state,
        "value": row.value,
        **{name: row.parameters.get(name) for name in names},
        "seconds": row.seconds,
        "folder": row.folder,
        "error": row.error.replace("\n", " ") if row.error else None,
    }
