"""Recipes and peers side by side: the same data, the same held-out speakers, the same budget, one thread.

    OMP_NUM_THREADS=1 python benchmarks/accuracy.py run ROW… --data FOLDER [--minutes 15] [--seed 0]
    OMP_NUM_THREADS=1 python benchmarks/accuracy.py pace ROW… --data FOLDER   # frames a CPU-second, in alternation
    python benchmarks/accuracy.py table       # of the rows in results/accuracy/rows; what each ingredient is worth

The budget is CPU-minutes of training. A row's pace is measured first, over real updates; then it gets as many passes
over the data as fit the budget, but no more than the recipe's own number (a schedule ends with them). What is no whole
number of epochs becomes equally shortened ones. Validation between epochs and the final evaluation come on top;
`cpu_minutes` is of the whole command. Each row is the command that it names; `rows/ROW-SEED.json` in `results/accuracy`
holds what came out, `ROW.csv.gz` there its submission.
"""

import argparse
import gzip
import json
import math
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean, stdev

from pytorch_lightning import Callback

HERE = Path(__file__).resolve()
RESULTS = HERE.parent.parent / "results" / "accuracy"
SPEAKERS = ("data.split.by=speaker", r'data.speaker_pattern="^(\d{5})"')  # speechocean: no speaker on both sides
SMALL_BILSTM = ("model.width=64", "model.depth=1", "data.train_score_share=0.02")
SMALL_BIGRU = ("model.width=128", "model.depth=3")

# The recipe `boss` with one thing changed; `boss_short` is the recipe itself at the ablation's budget.
ABLATIONS = {
    "boss_short": (),
    "no_masks": ("augment=none",),
    "no_smoothing": ("loss.label_smoothing=0",),
    "no_dropout": ("model.dropout=0",),
    "dropout_by_utterance": ("model.dropout_kind=utterance",),
    "no_convolutions": ("model.front_depth=0",),
    "float32": ("trainer.precision=32-true",),
    "unmasked": ("model.masked=false", "loss.padding_class=0", "data.batch_utterances=10"),
    "batch_by_utterances": ("data.batch_utterances=10",),
    "both_deltas": ("features=both", "augment.frequency_masks=0"),
    "ema": ("callbacks/averaging=ema",),
    "speed": ("augment.speed=0.1",),
    "constant_rate": ("schedule=constant",),
    "gru": ("model=gru",),
    "tcn": ("model=tcn", "model.depth=8", "model.norm=batch", "model.front_depth=0"),
    "conformer": ("model=conformer", "model.depth=3", "model.front_depth=0"),
}
KEPT = (  # of summary.json
    *("val_accuracy", "val_accuracy_without_silence", "val_loss", "train_accuracy", "parameters", "epochs"),
    *("peak_memory_gib", "precision", "versions"),
)
COLUMNS = {  # of the table: what of the seeds is shown, and its format
    "val_accuracy_without_silence": (mean, ".4f"),
    "train_accuracy": (mean, ".4f"),
    "parameters": (max, ","),
    "epochs": (max, ""),
    "frames_per_cpu_second": (max, ","),
    "cpu_minutes": (mean, ".1f"),
    "peak_memory_gib": (max, ".2f"),
}
# row: (ours or a peer's, what it adds to `phoneme-train`)
ROWS = {
    "simple": ("ours", ("experiment=simple", "data.split.val_fraction=0.1", "data.split.seed=0")),
    "medium": ("ours", ("experiment=medium",)),
    "strong": ("ours", ("experiment=strong",)),
    "boss": ("ours", ("experiment=boss",)),
    "peer_sample": ("peer", ("experiment=peer_sample", "data.split.val_fraction=0.1", "data.split.seed=0")),
    "peer_svm": ("peer", ("baseline=linear_svm",)),
    "peer_sklearn_mlp": ("peer", ("baseline=mlp", "frames=100000", "baseline.max_iter=40")),
    "peer_linear": ("peer", ("experiment=peer_linear",)),
    "peer_mlp": ("peer", ("experiment=peer_mlp",)),
    "peer_bilstm": ("peer", ("experiment=peer_bilstm", "data.train_score_share=0.002")),
    "peer_bilstm_128": ("peer", ("experiment=peer_bilstm", "model.width=128", "model.depth=2")),  # for its pace
    "peer_bilstm_small": ("peer", ("experiment=peer_bilstm", *SMALL_BILSTM)),
    "peer_bigru": ("peer", ("experiment=peer_bigru",)),
    "peer_bigru_small": ("peer", ("experiment=peer_bigru", *SMALL_BIGRU)),
    **{name: ("ablation", ("experiment=boss", *change)) for name, change in ABLATIONS.items()},
}


class Clock(Callback):
    """CPU-seconds an update, over at least `updates` of them and `seconds`, the first few left out; then it stops."""

    warmup = 3

    def __init__(self, updates: int, seconds: float):
        self.updates, self.seconds, self.frames, self.seen = updates, seconds, 0, 0

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.seen += 1
        if self.seen == self.warmup:
            self.start = time.process_time()
        elif self.seen > self.warmup:
            self.frames += int((batch.targets >= 0).sum())
            taken = time.process_time() - self.start
            if self.seen >= self.warmup + self.updates and taken > self.seconds:
                self.per_update = taken / (self.seen - self.warmup)
                self.per_frame = taken / self.frames
                self.per_epoch = trainer.num_training_batches
                raise SystemExit


def settings_of(overrides: list[str], folder: Path) -> tuple[dict, dict]:
    """What `phoneme-train` would compose for a row."""
    from phoneme.runs.compose import compose_job

    return compose_job(
        "train", [*overrides, "callbacks=none", "logger=none", "trainer.enable_progress_bar=false"], folder
    )


def pace(name: str, overrides: list[str], folder: Path, updates: int = 8, seconds: float = 10.0) -> Clock:
    """Train a row until its pace is known."""
    from phoneme.runs.train import train

    clock = Clock(updates, seconds)
    settings, portable = settings_of(overrides, folder)
    try:
        train(settings, portable, folder, watchers=[clock])
    except KeyboardInterrupt:
        return clock
    raise SystemExit(f"{name}: an epoch is too short to measure its pace")


def length_of(row: str, shared: list[str], minutes: float, folder: Path) -> tuple[list[str], dict]:
    """The settings that make a training as long as its budget, and what is known of its pace."""
    settings, _ = settings_of(shared, folder)
    clock = pace(row, shared, folder / "pace")
    updates = int(60 * minutes / clock.per_update)
    passes = min(updates / clock.per_epoch, settings["trainer"]["max_epochs"])
    epochs = math.ceil(passes)
    facts = {
        "budget_minutes": minutes,
        "frames_per_cpu_second": round(1 / clock.per_frame),
        "passes": round(passes, 2),
    }
    length = [f"trainer.max_epochs={epochs}"]
    if passes < epochs:
        length.append(f"trainer.limit_train_batches={int(passes * clock.per_epoch / epochs)}")
    return length, facts


def run(row: str, data: Path, minutes: float, seed: int, runs: Path, tag: str) -> None:
    side, choices = ROWS[row]
    shared = ["data=libriphone", f"data.root={data}", *(() if tag else SPEAKERS), *choices, f"seed={seed}"]
    name = f"{tag}{row}-{seed}"
    folder = runs / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    program = "baseline" if choices[0].startswith("baseline=") else "train"
    length, facts = ([], {}) if program == "baseline" else length_of(row, shared, minutes, folder)
    arguments = [*shared, *length]
    print(" ".join([f"phoneme-{program}", *arguments]), flush=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", f"phoneme.cli.{program}", *arguments, f"hydra.run.dir={folder}"]
    subprocess.run(command, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    summary = json.loads((folder / "summary.json").read_text())
    content = {
        "row": f"{tag}{row}",
        "side": side,
        "seed": seed,
        "command": " ".join([f"phoneme-{program}", *choices, *length, f"seed={seed}"]),
        **facts,
        "cpu_minutes": round((after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / 60, 2),
        **{key: summary[key] for key in KEPT if key in summary},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, 1 thread, Python {platform.python_version()}",
        **right_by_utterance(folder / "checkpoints" / "best.ckpt"),
    }
    rows = RESULTS / "rows"
    rows.mkdir(parents=True, exist_ok=True)
    (rows / f"{name}.json").write_text(json.dumps(content) + "\n")
    if seed == 0 and side != "ablation" and not tag:
        submission = gzip.compress((folder / "prediction.csv").read_bytes(), mtime=0)
        (RESULTS / f"{row}.csv.gz").write_bytes(submission)


def right_by_utterance(checkpoint: Path) -> dict[str, list[int]]:
    """Of each validation utterance the frames and how many of them are labelled right."""
    import torch

    from phoneme.decode import right_frames
    from phoneme.evaluation import log_posteriors
    from phoneme.runs.members import open_labelled, read_members

    members = read_members(str(checkpoint))
    labelled = open_labelled(members, None)
    posteriors = log_posteriors(members[0].model, labelled.stores[0], torch.device("cpu"), ids=labelled.held_out)
    labels, offsets = labelled.labels_of(labelled.held_out)
    right = right_frames(posteriors.argmax(-1), labels, offsets)
    return {"right": right.tolist(), "frames": offsets.diff().tolist()}


def compare_pace(rows: list[str], data: Path, rounds: int) -> None:
    """Frames a CPU-second of each row, in alternation; the ratio to the last row's. Written to pace.json."""
    taken: dict[str, list[float]] = {row: [] for row in rows}
    for _ in range(rounds):
        for row in rows:
            overrides = ["data=libriphone", f"data.root={data}", *SPEAKERS, *ROWS[row][1]]
            taken[row].append(1 / pace(row, overrides, RESULTS / "pace").per_frame)
    best = {row: max(values) for row, values in taken.items()}
    ratios = {row: round(value / best[rows[-1]], 2) for row, value in best.items()}
    for row in rows:
        print(f"{row}: {best[row]:.0f} frames a CPU-second, {ratios[row]} times {rows[-1]}")
    RESULTS.mkdir(parents=True, exist_ok=True)
    content = {"frames_per_cpu_second": {row: [round(v) for v in values] for row, values in taken.items()}}
    (RESULTS / "pace.json").write_text(json.dumps(content | {"ratio": ratios}, indent=2) + "\n")


def table() -> None:
    """The rows as Markdown: each side with its corpus, best first, and what each ingredient of `boss` is worth."""
    found = [json.loads(path.read_text()) for path in sorted((RESULTS / "rows").glob("*.json"))]
    groups: dict[str, list[dict]] = {}
    for row in found:
        groups.setdefault(row["row"], []).append(row)
    compared = [rows for rows in groups.values() if rows[0]["side"] != "ablation"]
    text = "\n".join(comparison(compared)) + "\n"
    if "boss_short" in groups:
        text += "\n" + "\n".join(ablations(groups)) + "\n"
    (RESULTS / "table.md").write_text(text)
    print(text)


def comparison(groups: list[list[dict]]) -> list[str]:
    """One line a row: mean ± deviation over the seeds that there are."""
    head = ("row", "validation accuracy", "without silence", "training accuracy", "parameters", "epochs")
    head += ("frames/CPU-s", "CPU-min", "GiB")
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for rows in sorted(groups, key=lambda rows: -mean(r["val_accuracy"] for r in rows)):
        accuracy = [r["val_accuracy"] for r in rows]
        spread = f" ± {stdev(accuracy):.4f} ({len(rows)} seeds)" if len(rows) > 1 else ""
        known = {key: [r[key] for r in rows if r.get(key) is not None] for key in COLUMNS}
        cells = [f"`{rows[0]['row']}`", f"{mean(accuracy):.4f}{spread}"]
        cells += [
            format(form(values), style) if values else ""
            for (form, style), values in zip(COLUMNS.values(), known.values(), strict=True)
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def ablations(groups: dict[str, list[dict]]) -> list[str]:
    """What `boss` has over each change, with a paired bootstrap interval over the validation utterances."""
    import torch

    from phoneme.decode import paired_gain

    whole = groups["boss_short"][0]
    lines = [
        "| change to `boss` | validation accuracy | the recipe is ahead by (95 % interval) | epochs | frames/CPU-s |",
        "|---|---|---|---|---|",
        f"| none | {whole['val_accuracy']:.4f} | | {whole['epochs']} | {whole['frames_per_cpu_second']:,} |",
    ]
    for name, change in ABLATIONS.items():
        if name != "boss_short" and name in groups:
            row = groups[name][0]
            right, other, frames = (torch.tensor(v) for v in (whole["right"], row["right"], whole["frames"]))
            gain = paired_gain(right, other, frames)
            cells = (
                f"`{' '.join(change)}`",
                f"{row['val_accuracy']:.4f}",
                f"{gain.gain:+.4f} ({gain.low:+.4f} to {gain.high:+.4f})",
                str(row["epochs"]),
                f"{row['frames_per_cpu_second']:,}",
            )
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=("run", "pace", "table"))
    parser.add_argument("rows", nargs="*", choices=[[], *ROWS])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tag", default="", help="before the names of rows from another corpus, split by utterance")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=Path, default=Path("outputs/accuracy"))
    options = parser.parse_args()
    if options.task == "table":
        table()
    elif options.task == "pace":
        compare_pace(options.rows, options.data.resolve(), options.rounds)
    else:
        for row in options.rows:
            run(row, options.data.resolve(), options.minutes, options.seed, options.runs.resolve(), options.tag)


if __name__ == "__main__":
    main()
