"""Recipes and peers side by side: the same data, the same held-out speakers, the same budget, one thread.

    OMP_NUM_THREADS=1 python benchmarks/accuracy.py run ROW… --data FOLDER [--corpus NAME] [--minutes 60] [--seed 0]
    OMP_NUM_THREADS=1 python benchmarks/accuracy.py best [--minutes 60]     # the average of `boss` with seeds 0, 1, 2
    OMP_NUM_THREADS=1 python benchmarks/accuracy.py ablate [ROW…] --data FOLDER [--epochs 4]    # one thing changed
    OMP_NUM_THREADS=1 python benchmarks/accuracy.py pace ROW… --data FOLDER # frames a CPU-second, in alternation
    python benchmarks/accuracy.py table       # of all the rows there are, and pictures

The budget of `run` is CPU-minutes of training. A row's pace is measured first, over real updates; then it gets as many
passes over the data as fit the budget, but no more than the recipe's own number (a schedule ends with them): then it is
`finished`, and the same row in every larger budget. What is no whole number of epochs becomes equally shortened ones.
Validation between epochs and the final evaluation come on top; `cpu_minutes` is of the whole command. `ablate` gives
each change to `boss` the same number of epochs: what a change is worth and what it costs are two columns.

`results/accuracy/rows/CORPUS-MINUTES/ROW-SEED.json` (`ablations-EPOCHS`) holds the command and what came out;
`results/accuracy/ROW.csv.gz` the submission of seed 0 (of the latest budget, speechocean).
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

from accuracy_rows import ABLATIONS, CORPORA, ROWS
from accuracy_table import write_table
from pytorch_lightning import Callback

RESULTS = Path(__file__).resolve().parent.parent / "results" / "accuracy"
BEST_SEEDS = (0, 1, 2)
KEPT = (  # of summary.json
    *("val_accuracy", "val_accuracy_without_silence", "val_loss", "train_accuracy", "parameters", "epochs"),
    *("peak_memory_gib", "precision", "versions"),
)


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
    own = settings["trainer"]["max_epochs"]
    affordable = int(60 * minutes / clock.per_update) / clock.per_epoch
    passes = min(affordable, own)
    epochs = math.ceil(passes)
    length = [f"trainer.max_epochs={epochs}"]
    if passes < epochs:
        length.append(f"trainer.limit_train_batches={int(passes * clock.per_epoch / epochs)}")
    return length, {
        "frames_per_cpu_second": round(1 / clock.per_frame),
        "passes": round(passes, 2),
        "finished": affordable >= own,
    }


def run(row: str, options: argparse.Namespace) -> None:
    """Train a row for the budget, and keep what came out."""
    side, choices = ROWS[row]
    rows = f"{options.corpus}-{options.minutes:g}"
    folder = fresh(options.runs / rows / f"{row}-{options.seed}")
    shared = [*data_of(options), *choices, f"seed={options.seed}"]
    program = "baseline" if choices[0].startswith("baseline=") else "train"
    length, facts = [], {"finished": True}
    if program == "train":
        length, facts = length_of(row, shared, options.minutes, folder)
    facts = {"corpus": options.corpus, "budget_minutes": options.minutes, "side": side, **facts}
    content = train(program, [*choices, *length], options, folder)
    keep(rows, row, options.seed, facts | content)
    if options.seed == 0 and options.corpus == "speechocean" and options.minutes >= largest_budget(row):
        keep_submission(row, folder)


def ablate(change: str, options: argparse.Namespace) -> None:
    """Train `boss` with one thing changed for some epochs, and keep what came out."""
    rows = f"ablations-{options.epochs}"
    folder = fresh(options.runs / rows / f"{change}-{options.seed}")
    choices = ["experiment=boss", *ABLATIONS[change], f"trainer.max_epochs={options.epochs}"]
    content = train("train", choices, options, folder, "data.train_score_share=0.05")
    facts = {"change": " ".join(ABLATIONS[change]), "budget_epochs": options.epochs}
    keep(rows, change, options.seed, facts | content)


def train(program: str, choices: list[str], options: argparse.Namespace, folder: Path, *further: str) -> dict:
    """Run a row's command; what it was, took and reached."""
    seed = f"seed={options.seed}"
    minutes = call(program, [*data_of(options), *choices, *further, seed, f"hydra.run.dir={folder}"])
    summary = json.loads((folder / "summary.json").read_text())
    return {
        "command": " ".join([f"phoneme-{program}", *choices, seed]),
        "cpu_minutes": minutes,
        **{key: summary[key] for key in KEPT if key in summary},
        **right_by_utterance([folder / "checkpoints" / "best.ckpt"]),
    }


def best(options: argparse.Namespace) -> None:
    """The average of `boss` with several seeds, whose runs and rows are there."""
    rows = f"speechocean-{options.minutes:g}"
    runs = options.runs / rows
    checkpoints = [runs / f"boss-{seed}" / "checkpoints" / "best.ckpt" for seed in BEST_SEEDS]
    folder = fresh(runs / "best-0")
    minutes = call("predict", [f"ckpt_path=[{','.join(map(str, checkpoints))}]", f"hydra.run.dir={folder}"])
    score = json.loads((folder / "ensemble.json").read_text())["validation"]
    members = [json.loads((RESULTS / "rows" / rows / f"boss-{seed}.json").read_text()) for seed in BEST_SEEDS]
    content = {
        "corpus": "speechocean",
        "budget_minutes": options.minutes,
        "side": "ours",
        "finished": False,
        "command": "phoneme-predict 'ckpt_path=[" + ",".join(f"boss-{seed}" for seed in BEST_SEEDS) + "]'",
        "cpu_minutes": round(minutes + sum(member["cpu_minutes"] for member in members), 2),
        "val_accuracy": round(score["accuracy"], 6),
        "gain_over_best_member": score["gain_over_best_member"],
        "gain_over_mean_member": score["gain_over_mean_member"],
        "parameters": sum(member["parameters"] for member in members),
    }
    keep(rows, "best", 0, content | right_by_utterance(checkpoints))
    keep_submission("best", folder)


def data_of(options: argparse.Namespace) -> list[str]:
    return ["data=libriphone", f"data.root={options.data}", *CORPORA[options.corpus]]


def fresh(folder: Path) -> Path:
    """The folder, empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def call(program: str, arguments: list[str]) -> float:
    """Run a command of the project; the CPU-minutes it took."""
    print(" ".join([f"phoneme-{program}", *arguments]), flush=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", f"phoneme.cli.{program}", *arguments], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return round((after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / 60, 2)


def keep(rows: str, row: str, seed: int, content: dict) -> None:
    """Write the row."""
    folder = RESULTS / "rows" / rows
    folder.mkdir(parents=True, exist_ok=True)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, 1 thread, Python {platform.python_version()}"
    head = {"row": row, "seed": seed}
    (folder / f"{row}-{seed}.json").write_text(json.dumps(head | content | {"machine": machine}) + "\n")


def largest_budget(row: str) -> float:
    """In minutes, of the row's results with seed 0."""
    files = (RESULTS / "rows").glob(f"speechocean-*/{row}-0.json")
    return max(json.loads(path.read_text())["budget_minutes"] for path in files)


def keep_submission(row: str, folder: Path) -> None:
    (RESULTS / f"{row}.csv.gz").write_bytes(gzip.compress((folder / "prediction.csv").read_bytes(), mtime=0))


def right_by_utterance(checkpoints: list[Path]) -> dict:
    """Of each validation utterance the frames and how many of them the average of the checkpoints labels right."""
    import torch

    from phoneme.decode import combine, right_frames
    from phoneme.runs.members import open_labelled, read_members

    members = read_members([str(path) for path in checkpoints])
    labelled = open_labelled(members, None)
    pairs = zip(members, labelled.stores, strict=True)
    options = {"device": torch.device("cpu"), "batch_size": 2048, "ids": labelled.held_out}
    own = [member.log_posteriors(store, **options) for member, store in pairs]
    labels, offsets = labelled.labels_of(labelled.held_out)
    answer = (combine(own, [1 / len(own)] * len(own), "log") if len(own) > 1 else own[0]).argmax(-1)
    silence = torch.tensor(sorted(labelled.stores[0].phones.silence))
    speech = ~torch.isin(labels.long(), silence)
    return {
        "val_accuracy_without_silence": round((answer == labels)[speech].double().mean().item(), 6),
        "right": right_frames(answer, labels, offsets).tolist(),
        "frames": offsets.diff().tolist(),
    }


def compare_pace(options: argparse.Namespace) -> None:
    """Frames a CPU-second of each row, in alternation; the ratio to the last row's. Written to pace.json."""
    rows = options.rows
    taken: dict[str, list[float]] = {row: [] for row in rows}
    for _ in range(options.rounds):
        for row in rows:
            clock = pace(row, [*data_of(options), *ROWS[row][1]], options.runs / "pace")
            taken[row].append(1 / clock.per_frame)
    highest = {row: max(values) for row, values in taken.items()}
    ratios = {row: round(value / highest[rows[-1]], 2) for row, value in highest.items()}
    for row in rows:
        print(f"{row}: {highest[row]:.0f} frames a CPU-second, {ratios[row]} times {rows[-1]}")
    RESULTS.mkdir(parents=True, exist_ok=True)
    content = {"frames_per_cpu_second": {row: [round(v) for v in values] for row, values in taken.items()}}
    (RESULTS / "pace.json").write_text(json.dumps(content | {"ratio": ratios}, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=("run", "best", "ablate", "pace", "table"))
    parser.add_argument("rows", nargs="*", choices=[[], *ROWS, *ABLATIONS])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--corpus", choices=CORPORA, default="speechocean")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=Path, default=Path("outputs/accuracy"))
    options = parser.parse_args()
    known = ABLATIONS if options.task == "ablate" else ROWS
    if not set(options.rows) <= set(known):
        parser.error(f"{options.task} knows {', '.join(known)}")
    if options.task in ("run", "ablate", "pace") and options.data is None:
        parser.error(f"{options.task} needs --data FOLDER")
    if options.task == "ablate" and options.corpus != "speechocean":
        parser.error("ablate knows the speechocean set only: its rows have no place for another")
    options.runs = options.runs.resolve()
    options.data = options.data and options.data.resolve()
    if options.task == "table":
        write_table(RESULTS)
    elif options.task == "best":
        best(options)
    elif options.task == "pace":
        compare_pace(options)
    elif options.task == "ablate":
        for change in options.rows or ABLATIONS:
            ablate(change, options)
    else:
        for row in options.rows:
            run(row, options)


if __name__ == "__main__":
    main()
