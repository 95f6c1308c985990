"""Our data path against the sample code's, side by side: memory, speed, and the share of the matrix-product limit.

    OMP_NUM_THREADS=1 python benchmarks/data_path.py CORPUS      # CORPUS from benchmarks/make_corpus.py

Both train the same network (four hidden layers of 256 units, batch 512, AdamW) on the same folder with one thread, in
alternation, each in a process of its own. The limit is the same network's forward, backward and update on one batch
that never changes: no data path at all. Writes `results/data_path/{measurements.json,table.md}`.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
SAMPLE_GIB = {61: "needs 29.9"}  # not run where the machine has less


def ours(root: Path, context: int, updates: int) -> dict[str, float]:
    """Train `updates` batches through `phoneme`, then predict the test split; in this process."""
    start_wall = time.perf_counter()
    import torch
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf
    from pytorch_lightning import Callback, Trainer

    from phoneme.build import build
    from phoneme.classifier import PhonemeClassifier
    from phoneme.config import CONF, register_schemas
    from phoneme.datamodule import PhonemeData
    from phoneme.evaluation import predict
    from phoneme.losses import make_loss
    from phoneme.runs.data import open_stores
    from phoneme.splits import split_ids

    imported = time.perf_counter()

    class Clock(Callback):
        def on_train_start(self, trainer, module):
            self.start = time.process_time()

        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            if batch_idx == 0:
                self.first_batch = time.perf_counter()

        def on_train_end(self, trainer, module):
            self.seconds = time.process_time() - self.start

    register_schemas()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(
            "train",
            [
                "data=libriphone",
                f"data.root={root}",
                f"model.context={context}",
                "model.depth=4",
                "model.width=256",
                "model.norm=none",
                "model.dropout=0",
                "optim.lr=1e-4",
                "schedule=constant",
                "callbacks=none",
                "logger=none",
                "data.split.seed=1337",
                "data.split.val_fraction=0.2",
            ],
        )
    s = OmegaConf.to_container(config, resolve=True)
    stores = open_stores(s["data"])
    split = split_ids(stores.train.ids, stores.train.speakers, **s["data"]["split"])
    torch.manual_seed(0)
    model = build(s["model"], "model", coeffs=39, classes=41)
    module = PhonemeClassifier(
        model,
        make_loss(**s["loss"]),
        stores.train.phones,
        optim=s["optim"],
        schedule=s["schedule"],
        seed=0,
        recipe={},
    )
    clock = Clock()
    trainer = Trainer(
        accelerator="cpu",
        max_steps=updates,
        limit_val_batches=0,
        callbacks=[clock],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, PhonemeData(stores.train, split, context=context, batch_size=512))
    predict(model, stores.test, torch.device("cpu"))
    return {
        "frames_per_cpu_second": module.epoch_sums[-1].item() / clock.seconds,
        "first_batch_seconds": clock.first_batch - imported,
        "import_seconds": imported - start_wall,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def limit(context: int, updates: int) -> dict[str, float]:
    """Frames per CPU-second of the network alone, on one batch."""
    import torch

    sys.path.insert(0, str(HERE))
    from sample_code import network

    model = network(context)
    x, y = torch.randn(512, 39 * context), torch.randint(0, 41, (512,))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    for i in range(updates + 20):
        if i == 20:
            start = time.process_time()
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return {"frames_per_cpu_second": 512 * updates / (time.process_time() - start)}


def child(*arguments: object) -> dict[str, float]:
    """Run one measurement in a fresh process with one thread."""
    command = [sys.executable, *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    out = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return json.loads(out.stdout.strip().splitlines()[-1])


def measure(root: Path, context: int, updates: int, rounds: int) -> dict[str, float | None]:
    """Median over rounds of ours, theirs and the limit, taken in alternation."""
    runs: dict[str, list[dict[str, float]]] = {"ours": [], "theirs": [], "limit": []}
    for _ in range(rounds):
        runs["ours"].append(child(__file__, root, "--one", "ours", "--context", context, "--updates", updates))
        runs["limit"].append(child(__file__, root, "--one", "limit", "--context", context, "--updates", updates))
        if context not in SAMPLE_GIB:
            runs["theirs"].append(child(HERE / "sample_code.py", root, "--context", context, "--updates", updates))
    return {
        f"{who}_{key}": statistics.median(run[key] for run in taken)
        for who, taken in runs.items()
        if taken
        for key in taken[0]
    }


def table(rows: dict[int, dict[str, float]]) -> str:
    """The results as a markdown table."""
    lines = [
        "| context | peak GiB: sample code | ours | frames per CPU-s: sample code | ours | ratio | share of the limit "
        "| first batch after imports, s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for context, row in rows.items():
        speed, bound = row["ours_frames_per_cpu_second"], row["limit_frames_per_cpu_second"]
        theirs = row.get("theirs_frames_per_cpu_second")
        lines.append(
            f"| {context} | "
            + (f"{row['theirs_peak_gib']:.2f}" if theirs else SAMPLE_GIB[context])
            + f" | **{row['ours_peak_gib']:.2f}** | "
            + (f"{theirs:,.0f}" if theirs else "not run")
            + f" | {speed:,.0f} | "
            + (f"**{speed / theirs:.2f}**" if theirs else "–")
            + f" | {speed / bound:.2f} | {row['ours_first_batch_seconds']:.2f} |"
        )
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--context", type=int, nargs="+", default=[11, 31, 61])
    parser.add_argument("--updates", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", choices=("ours", "limit"), help="a single measurement, printed as JSON")
    args = parser.parse_args()
    if args.one:
        one = (
            ours(args.root, args.context[0], args.updates)
            if args.one == "ours"
            else limit(args.context[0], args.updates)
        )
        print(json.dumps(one))
        return
    child(__file__, args.root, "--one", "ours", "--context", 11, "--updates", 1)  # builds the cache
    rows = {context: measure(args.root, context, args.updates, args.rounds) for context in args.context}
    text = table(rows)
    print(text)
    folder = HERE.parent / "results" / "data_path"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "measurements.json").write_text(json.dumps(rows, indent=2) + "\n")
    (folder / "table.md").write_text(
        f"{text}\n\n{platform.machine()}, {os.cpu_count()} cores, one thread, Python {platform.python_version()}, "
        f"{args.updates} updates of 512 frames, median of {args.rounds} rounds in alternation.\n"
    )


if __name__ == "__main__":
    main()
