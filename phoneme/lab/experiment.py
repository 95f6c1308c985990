"""An experiment: claims, the rules that decide them, and the run that measures what the rules are about."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from phoneme.files import primitives
from phoneme.lab.bench import Bench
from phoneme.lab.lecture import ROWS
from phoneme.lab.pictures import Picture
from phoneme.lab.rules import Claim, Rule, decide, verdict_of


@dataclass(frozen=True)
class Measured:
    """What a run found: of each effect a value a seed; `numbers` to look up, in primitives; pictures."""

    effects: Mapping[str, Sequence[float | int]]
    pictures: Sequence[Picture]
    numbers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Experiment:
    """`claims` by row of the lecture. Every row has a rule, and every rule a row.

    `measures_time`: nothing else may run beside it. `takes_checkpoint`: it can be run on the user's own network.
    """

    name: str
    title: str
    claims: Mapping[str, Claim]
    rules: tuple[Rule, ...]
    measure: Callable[..., Measured]
    measures_time: bool = False
    takes_checkpoint: bool = False

    def __post_init__(self):
        assert self.claims.keys() <= ROWS.keys() and {rule.row for rule in self.rules} == set(self.claims), self.name
        assert len({rule.effect for rule in self.rules}) == len(self.rules), f"{self.name}: an effect has two rules"


def perform(experiment: Experiment, bench: Bench, **conditions: Any) -> dict[str, Any]:
    """Run it and judge: the content of lab.json, in primitives.

    `conditions` are arguments of its `measure`, to change what is compared.
    """
    wall, cpu = time.perf_counter(), time.process_time()
    measured = experiment.measure(bench, **conditions)
    assert measured.effects.keys() == {rule.effect for rule in experiment.rules}, experiment.name
    rulings = [decide(rule, measured.effects[rule.effect]) for rule in experiment.rules]
    rows = {
        row: {
            **vars(claim),
            "verdict": verdict_of([ruling.verdict for ruling in rulings if ruling.rule.row == row]),
            "rulings": [ruling.to_dict() for ruling in rulings if ruling.rule.row == row],
        }
        for row, claim in experiment.claims.items()
    }
    return primitives(
        {
            "experiment": experiment.name,
            "title": experiment.title,
            "rows": rows,
            "numbers": dict(measured.numbers),
            "pictures": list(measured.pictures),
            "seeds": list(bench.seeds),
            "budget": bench.budget,
            "checkpoint": bench.checkpoint.name if bench.checkpoint else None,
            "cost": {
                "seconds": round(time.perf_counter() - wall, 2),
                "cpu_seconds": round(time.process_time() - cpu, 2),
            },
        }
    )
