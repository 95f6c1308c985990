"""The rows of `accuracy.py` as Markdown: a comparison for each corpus and budget, and what each ingredient is worth."""

import json
from pathlib import Path
from statistics import mean, stdev

from accuracy_rows import ABLATIONS

COLUMNS = {  # what of the seeds is shown, and its format
    "val_accuracy_without_silence": (mean, ".4f"),
    "train_accuracy": (mean, ".4f"),
    "parameters": (max, ","),
    "epochs": (max, ""),
    "frames_per_cpu_second": (max, ","),
    "cpu_minutes": (mean, ".1f"),
    "peak_memory_gib": (max, ".2f"),
}
HEAD = ("row", "validation accuracy", "without silence", "training accuracy", "parameters", "epochs")
HEAD += ("frames/CPU-s", "CPU-min", "GiB")
ABLATION_HEAD = (
    "change to `boss`",
    "validation accuracy",
    "training accuracy",
    "the recipe is ahead by (95 % interval)",
)
ABLATION_HEAD += ("CPU-min",)


def write_table(results: Path) -> None:
    """table.md from rows/*/ROW-SEED.json."""
    rows = [json.loads(path.read_text()) for path in sorted(results.glob("rows/*/*.json"))]
    budgets = {(row["corpus"], row["budget_minutes"]) for row in rows if "budget_minutes" in row}
    parts = []
    for corpus, minutes in sorted(budgets, key=lambda budget: (budget[0] != "speechocean", budget[0], -budget[1])):
        of_corpus = [row for row in rows if row.get("corpus") == corpus]
        compared = [r for r in of_corpus if r["budget_minutes"] == minutes]
        compared += [r for r in of_corpus if r["budget_minutes"] < minutes and r["finished"]]
        parts += [f"### {corpus}, {minutes:g} CPU-minutes", comparison(compared)]
    for epochs in sorted({row["budget_epochs"] for row in rows if "budget_epochs" in row}):
        changed = [row for row in rows if row.get("budget_epochs") == epochs]
        parts += [f"### Changes to `boss`, {epochs} epochs", ablations(changed)]
    text = "\n\n".join(parts) + "\n"
    (results / "table.md").write_text(text)
    print(text)


def comparison(rows: list[dict]) -> str:
    """One line a row, best first: mean ± deviation over the seeds that there are."""
    groups: dict[str, list[dict]] = {}
    for row in rows:
        groups.setdefault(row["row"], []).append(row)
    lines = []
    for name, seeds in sorted(groups.items(), key=lambda group: -mean(r["val_accuracy"] for r in group[1])):
        accuracy = [r["val_accuracy"] for r in seeds]
        spread = f" ± {stdev(accuracy):.4f} ({len(seeds)} seeds)" if len(seeds) > 1 else ""
        known = {key: [r[key] for r in seeds if r.get(key) is not None] for key in COLUMNS}
        cells = [
            format(form(values), style) if values else ""
            for (form, style), values in zip(COLUMNS.values(), known.values(), strict=True)
        ]
        lines.append([f"`{name}`", f"{mean(accuracy):.4f}{spread}", *cells])
    return markdown(HEAD, lines)


def ablations(rows: list[dict]) -> str:
    """What `boss` has over each change, with a paired bootstrap interval over the validation utterances."""
    import torch

    from phoneme.decode import paired_gain

    by_name = {row["row"]: row for row in rows if row["seed"] == 0}
    recipe = by_name["recipe"]
    lines = []
    for name in ABLATIONS:
        if (row := by_name.get(name)) is not None:
            right, other, frames = (torch.tensor(v) for v in (recipe["right"], row["right"], recipe["frames"]))
            gain = paired_gain(right, other, frames)
            interval = f"{gain.gain:+.4f} ({gain.low:+.4f} to {gain.high:+.4f})" if row is not recipe else ""
            accuracies = [f"{row[key]:.4f}" for key in ("val_accuracy", "train_accuracy")]
            lines.append([f"`{row['change'] or 'none'}`", *accuracies, interval, f"{row['cpu_minutes']:.1f}"])
    return markdown(ABLATION_HEAD, lines)


def markdown(head: tuple[str, ...], lines: list[list[str]]) -> str:
    return "\n".join(
        [
            "| " + " | ".join(head) + " |",
            "|---" * len(head) + "|",
            *("| " + " | ".join(cells) + " |" for cells in lines),
        ]
    )
