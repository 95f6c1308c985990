"""How fast the decoders are, and what they and an ensemble are worth on the bundled speech.

    OMP_NUM_THREADS=1 python benchmarks/decode.py [CHECKPOINT …]

Speed: 600,000 frames of random posteriors over 41 classes in utterances of 200 to 2000 frames, one thread. With
checkpoints (of `phoneme-train` on the bundled speech): each is decoded, and all of them together as an ensemble, with
`phoneme-predict`. Writes `results/decode/{measurements.json,table.md}`.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FRAMES, CLASSES, SHORTEST, LONGEST = 600_000, 41, 200, 2000
FOLDER = Path(__file__).resolve().parent.parent / "results" / "decode"


def speed(rounds: int) -> dict[str, float]:
    """Seconds for each decoder, the best of some rounds; the checks of the posteriors are part of them."""
    import torch

    from phoneme.decode import argmax, count_phones, hmm_decoding, median_smoothing

    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    lengths = [0]
    while sum(lengths) < FRAMES:
        lengths.append(int(torch.randint(SHORTEST, LONGEST + 1, (1,), generator=generator)))
    lengths[-1] -= sum(lengths) - FRAMES
    offsets = torch.tensor(lengths).cumsum(0)
    posteriors = torch.randn(FRAMES, CLASSES, generator=generator).mul(3).log_softmax(1)
    labels = torch.randint(CLASSES, (FRAMES // 8,), generator=generator).repeat_interleave(8).to(torch.uint8)
    statistics = count_phones(labels, offsets, CLASSES)
    weights = {"prior_weight": 0.5, "transition_weight": 1.0}
    tasks = {
        "argmax": lambda: argmax(posteriors, offsets),
        "median, 7 frames": lambda: median_smoothing(posteriors, offsets, window=7),
        "HMM, at least 1 frame": lambda: hmm_decoding(posteriors, offsets, statistics, **weights, minimum_frames=1),
        "HMM, at least 3 frames": lambda: hmm_decoding(posteriors, offsets, statistics, **weights, minimum_frames=3),
    }
    return {name: seconds(task, rounds) for name, task in tasks.items()} | {
        "utterances": len(lengths) - 1,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def seconds(task, rounds: int) -> dict[str, float]:
    """Of the wall and of the processor, the least of the rounds."""
    taken = []
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        task()
        taken.append((time.perf_counter() - wall, time.process_time() - cpu))
    return {"wall": min(wall for wall, _ in taken), "cpu": min(cpu for _, cpu in taken)}


def worth(checkpoints: list[str]) -> list[dict]:
    """One row for each command: what it is, its validation accuracy, the gain with its interval."""
    rows = []
    for checkpoint in checkpoints:
        rows += [of_decoder(checkpoint, f"decode={name}") for name in ("median", "hmm")]
    if len(checkpoints) > 1:
        several = f"[{','.join(checkpoints)}]"
        for average in ("log", "linear"):
            rows += [of_ensemble(several, average, weights) for weights in ("equal", "fitted")]
        rows.append(of_decoder(several, "decode=median") | {"what": "the ensemble (log, equal), decode=median"})
        rows.append(of_decoder(several, "decode=hmm") | {"what": "the ensemble (log, equal), decode=hmm"})
    return rows


def of_decoder(checkpoint: str, decoder: str) -> dict:
    """A decoder against argmax of the same posteriors."""
    found = predict(checkpoint, decoder)["decoding"]
    chosen = ", ".join(f"{key} {value}" for key, value in found["chosen"].items())
    accuracies = {"before": found["argmax_accuracy"], "after": found["accuracy"]}
    return {"what": f"{checkpoint}, {decoder}", "detail": chosen, **accuracies, **found["gain"]}


def of_ensemble(several: str, average: str, weights: str) -> dict:
    """An ensemble against the mean of its members."""
    found = predict(several, f"ensemble.average={average}", f"ensemble.weights={weights}")["ensemble"]["validation"]
    mean = sum(found["member_accuracies"]) / len(found["member_accuracies"])
    best = found["gain_over_best_member"]
    detail = f"over the best member {best['gain']:+.4f} ({best['low']:+.4f} to {best['high']:+.4f})"
    accuracies = {"before": mean, "after": found["accuracy"]}
    what = f"the ensemble of {len(found['member_accuracies'])}, {average}, {weights} weights, against the mean member"
    return {"what": what, "detail": detail, **accuracies, **found["gain_over_mean_member"]}


def predict(checkpoint: str, *overrides: str) -> dict[str, dict]:
    """The JSON files that `phoneme-predict` leaves, by name."""
    with tempfile.TemporaryDirectory() as folder:
        program = [sys.executable, "-m", "phoneme.cli.predict"]
        arguments = [f"ckpt_path={checkpoint}", *overrides, f"hydra.run.dir={folder}", "device=cpu"]
        subprocess.run([*program, *arguments], check=True, capture_output=True, text=True)
        return {path.stem: json.loads(path.read_text()) for path in Path(folder).glob("*.json")}


def tables(fast: dict, rows: list[dict]) -> str:
    """Both results as markdown tables."""
    lines = ["| decoder | wall seconds | CPU seconds |", "|---|---|---|"]
    lines += [f"| {n} | {v['wall']:.2f} | {v['cpu']:.2f} |" for n, v in fast.items() if isinstance(v, dict)]
    if rows:
        lines += ["", "| what | accuracy before | after | gain (95 % interval) | |", "|---|---|---|---|---|"]
    for row in rows:
        gain = f"{row['gain']:+.4f} ({row['low']:+.4f} to {row['high']:+.4f})"
        lines.append(f"| {row['what']} | {row['before']:.4f} | {row['after']:.4f} | {gain} | {row['detail']} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="*")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    fast, rows = speed(args.rounds), worth(args.checkpoints)
    FOLDER.mkdir(parents=True, exist_ok=True)
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    content = {"speed": fast, "worth": rows, **machine}
    (FOLDER / "measurements.json").write_text(json.dumps(content, indent=2) + "\n")
    (FOLDER / "table.md").write_text(tables(fast, rows))
    print(tables(fast, rows))


if __name__ == "__main__":
    main()
