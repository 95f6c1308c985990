"""A folder in the homework's format with random numbers in it, as large as the 2022 corpus: for speed and memory only.

python benchmarks/make_corpus.py /some/folder            # 4,286 + 1,078 utterances, 2.64 M + 0.65 M frames
"""

import argparse
import random
from pathlib import Path

import torch
from tqdm import tqdm

SIZES = {"train": (4286, 2_644_158), "test": (1078, 646_268)}  # utterances, frames of 2022


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--share", type=float, default=1.0, help="of the utterances, for a quick look")
    args = parser.parse_args()
    torch.manual_seed(0)
    rng = random.Random(0)
    for split, (utterances, frames) in SIZES.items():
        utterances, frames = int(utterances * args.share), int(frames * args.share)
        folder = args.root / "feat" / split
        folder.mkdir(parents=True, exist_ok=True)
        ids = [f"{i % 250 + 1}-{i // 250 + 100}-{i:04d}" for i in range(utterances)]
        lengths = [frames * (i + 1) // utterances - frames * i // utterances for i in range(utterances)]
        labels = []
        for name, length in tqdm(list(zip(ids, lengths, strict=True)), desc=split):
            torch.save(torch.randn(length, 39), folder / f"{name}.pt")
            labels.append(f"{name} " + " ".join(str(rng.randrange(41)) for _ in range(length)))
        (args.root / f"{split}_split.txt").write_text("\n".join(ids))
        if split == "train":
            (args.root / "train_labels.txt").write_text("\n".join(labels) + "\n")


if __name__ == "__main__":
    main()
