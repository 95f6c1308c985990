"""What a search leaves: its trials as files, a picture, and lines on the terminal."""

import csv
import io
import logging
import shlex
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna

from phoneme.errors import InputError
from phoneme.files import primitives, write_json, write_text
from phoneme.plots import plot_search, save
from phoneme.runs.trial import LOG
from phoneme.runs.versions import versions
from phoneme.search import (
    Row,
    Space,
    at_the_edge,
    best_rows,
    described,
    flat,
    overrides_of,
    rows_of,
    shown,
    shown_url,
    table,
)

log = logging.getLogger(__name__)

SHOWN = 5  # of the best trials on the terminal
KEPT = ("study", "metric", "direction", "sampler", "pruner", "seed", "trials", "train")  # settings in search.json


@dataclass(frozen=True)
class Search:
    """A study, the space and the settings of the command, and the run directory."""

    study: optuna.Study
    space: Space
    settings: dict[str, Any]
    folder: Path

    @property
    def url(self) -> str:
        """Of the storage, without a password."""
        return shown_url(self.settings["storage"])


def leave(search: Search) -> list[Row]:
    """Write search.csv, search.json and figures/search.png as of now; returns the trials."""
    settings, rows = search.settings, rows_of(search.study)
    _write_csv([flat(row, search.space) for row in rows], search.folder / "search.csv")
    best = best_rows(rows, settings["direction"], 1)
    content = {
        **{name: settings[name] for name in KEPT},
        "storage": search.url,
        "space": {name: described(distribution) for name, distribution in search.space.items()},
        "states": dict(Counter(row.state for row in rows)),
        "best": asdict(best[0]) | {"command": command_of(best[0])} if best else None,
        "at_the_edge": at_the_edge(search.space, best[0].parameters) if best else [],
        "versions": versions() | {"optuna": optuna.__version__},
        "all": [asdict(row) for row in rows],
    }
    write_json(search.folder / "search.json", primitives(content))
    if any(row.value is not None for row in rows):
        save(plot_search(content), search.folder / "figures" / "search.png")
    return rows


def _write_csv(lines: list[dict[str, Any]], path: Path) -> None:
    text = io.StringIO()
    if lines:
        writer = csv.DictWriter(text, lines[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    write_text(path, text.getvalue())


def say(search: Search, rows: list[Row], number: int) -> None:
    """The line of the trial that has ended; nothing about one that came too many."""
    for row in rows:
        if row.number == number:
            log.log(logging.WARNING if row.state == "failed" else logging.INFO, "%s", _line(row, rows, search.settings))


def _line(row: Row, rows: list[Row], settings: dict[str, Any]) -> str:
    where = " ".join(f"{name}={shown(value)}" for name, value in row.parameters.items())
    if row.state == "failed":
        return f"trial {row.number} failed: {row.error}\n  with: {where}\n  its log: {Path(row.folder, LOG)}"
    best = best_rows(rows, settings["direction"], 1)
    compared = f", best {best[0].value:.4f} of trial {best[0].number}" if best else ""
    return f"trial {row.number} {row.state}: {row.value:.4f} in {row.seconds:.0f} s{compared}; {where}"


def conclude(search: Search) -> list[Row]:
    """The files, the best trials on the terminal, and a warning for each value at the edge of the space.

    Raises InputError if every trial failed.
    """
    settings, rows = search.settings, leave(search)
    counts = Counter(row.state for row in rows)
    best = best_rows(rows, settings["direction"], SHOWN)
    failed = [row for row in rows if row.state == "failed"]
    if failed and not best and not counts["pruned"] and not counts["running"]:
        raise InputError(
            expected="at least one trial that trains",
            got=f"{len(failed)} that failed",
            where=Path(failed[0].folder or search.folder, LOG),
            hint=f"the first said: {failed[0].error}",
        )
    log.info("trials: %s", ", ".join(f"{number} {state}" for state, number in counts.items()))
    if counts["running"]:
        log.info("what runs is another process's; if that was killed, this command repeats the trial from 2 minutes on")
    if best:
        _say_the_best(search, best)
    return rows


def _say_the_best(search: Search, best: list[Row]) -> None:
    for line in table(best, search.settings["metric"]):
        log.info("  %s", line)
    for name in at_the_edge(search.space, best[0].parameters):
        ((kind, values),) = described(search.space[name]).items()
        log.warning(
            "%s=%s of the best trial is at the edge of the space (%s %s): a wider one may hold a better value",
            name,
            shown(best[0].parameters[name]),
            kind,
            values,
        )
    log.info("the best again: %s", command_of(best[0]))
    log.info("all trials: %s\npicture:    %s", search.folder / "search.csv", search.folder / "figures" / "search.png")


def command_of(row: Row) -> str:
    """The command line that repeats a trial, to the bit on the same machine."""
    return shlex.join(["phoneme-train", *row.train, *overrides_of(row.parameters)])
