"""The rows of `accuracy.py` as Markdown: a comparison for each corpus and budget, and what each ingredient is worth."""

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

import torch
from accuracy_figures import plot_changes, plot_rows
from accuracy_rows import ABLATIONS

from phoneme.decode import Gain, paired_gain
from phoneme.plots.figure import save

COLUMNS = {  # what of the seeds is shown, and its format
    "val_accuracy_without_silence": (mean, ".4f"),
    "train_accuracy": (mean, ".4f"),
    "parameters": (max, ","),
    "epochs": (max, ""),
    "frames_per_cpu_second": (max, ","),
    "cpu_minutes": (mean, ".1f"),
    "peak_memory_gib": (max, ".2f"),
    "precision": (max, ""),
}
HEAD = ("row", "validation accuracy", "without silence", "training accuracy", "parameters", "epochs")
HEAD += ("frames/CPU-s", "CPU-min", "GiB", "precision")
ABLATION_HEAD = (
    "change to `boss`",
    "validation accuracy",
    "training accuracy",
    "the recipe is ahead by (95 % interval)",
)
ABLATION_HEAD += ("CPU-min",)


@dataclass(frozen=True)
class Change:
    """What `boss` with one thing changed reaches, and what the recipe is ahead by."""

    settings: str
    row: dict
    gain: Gain | None  # of the recipe itself None


def write_table(results: Path) -> None:
    """table.md and the pictures, from rows/*/ROW-SEED.json."""
    rows = [json.loads(path.read_text()) for path in sorted(results.glob("rows/*/*.json"))]
    budgets = {(row["corpus"], row["budget_minutes"]) for row in rows if "budget_minutes" in row}
    parts = []
    for corpus, minutes in sorted(budgets, key=lambda budget: (budget[0] != "speechocean", budget[0], -budget[1])):
        largest = minutes == max(m for other, m in budgets if other == corpus)
        compared = {
            name: seeds for name, seeds in within(rows, corpus, minutes).items() if largest or not seeds[0]["finished"]
        }
        if compared:
            parts += [f"### {corpus}, {minutes:g} CPU-minutes", comparison(compared)]
    for epochs in sorted({row["budget_epochs"] for row in rows if "budget_epochs" in row}):
        found = changes(rows, epochs)
        parts += [f"### Changes to `boss`, {epochs} epochs", ablations(found)]
        save(plot_changes(found, epochs), results / f"changes_{epochs}.png")
    hour = within(rows, "speechocean", 60)
    parts += ["### Commands", commands(hour)]
    save(plot_rows(hour), results / "rows.png")
    text = "\n\n".join(parts) + "\n"
    (results / "table.md").write_text(text)
    print(text)


def within(rows: list[dict], corpus: str, minutes: float) -> dict[str, list[dict]]:
    """The seeds of each row that had this budget, or that finished within less; the best first."""
    groups: dict[str, list[dict]] = {}
    for row in rows:
        if row.get("corpus") == corpus:
            budget = row["budget_minutes"]
            if budget == minutes or (budget < minutes and row["finished"]):
                groups.setdefault(row["row"], []).append(row)
    return dict(sorted(groups.items(), key=lambda group: -mean(r["val_accuracy"] for r in group[1])))


def comparison(groups: dict[str, list[dict]]) -> str:
    """One line a row: mean ± deviation over the seeds that there are."""
    lines = []
    for name, seeds in groups.items():
        accuracy = [r["val_accuracy"] for r in seeds]
        spread = f" ± {stdev(accuracy):.4f} ({len(seeds)} seeds)" if len(seeds) > 1 else ""
        known = {key: [r[key] for r in seeds if r.get(key) is not None] for key in COLUMNS}
        cells = [
            format(form(values), style) if values else ""
            for (form, style), values in zip(COLUMNS.values(), known.values(), strict=True)
        ]
        lines.append([f"`{name}`", f"{mean(accuracy):.4f}{spread}", *cells])
    return markdown(HEAD, lines)


def commands(groups: dict[str, list[dict]]) -> str:
    """What each row has run, with its first seed."""
    return markdown(("row", "command"), [[f"`{name}`", f"`{seeds[0]['command']}`"] for name, seeds in groups.items()])


def changes(rows: list[dict], epochs: int) -> list[Change]:
    """What `boss` has over each change (seed 0), with a paired bootstrap interval over the validation utterances."""
    by_name = {row["row"]: row for row in rows if row.get("budget_epochs") == epochs and row["seed"] == 0}
    recipe = by_name["recipe"]
    found = []
    for name in ABLATIONS:
        if (row := by_name.get(name)) is not None:
            right, other, frames = (torch.tensor(v) for v in (recipe["right"], row["right"], recipe["frames"]))
            gain = None if row is recipe else paired_gain(right, other, frames)
            found.append(Change(row["change"] or "none", row, gain))
    return found


def ablations(found: list[Change]) -> str:
    """One line a change."""
    lines = []
    for change in found:
        gain, row = change.gain, change.row
        ahead = f"{gain.gain:+.4f} ({gain.low:+.4f} to {gain.high:+.4f})" if gain else ""
        accuracies = [f"{row[key]:.4f}" for key in ("val_accuracy", "train_accuracy")]
        lines.append([f"`{change.settings}`", *accuracies, ahead, f"{row['cpu_minutes']:.1f}"])
    return markdown(ABLATION_HEAD, lines)


def markdown(head: tuple[str, ...], lines: list[list[str]]) -> str:
    return "\n".join(
        [
            "| " + " | ".join(head) + " |",
            "|---" * len(head) + "|",
            *("| " + " | ".join(cells) + " |" for cells in lines),
        ]
    )
