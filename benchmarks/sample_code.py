"""The algorithm of the course's sample code, written again: what `phoneme`'s data path is measured against.

Every frame is copied once for each window it is in: one float32 array `[frame, 39 · n]` a split, filled utterance by
utterance; a map-style dataset of single rows; a shuffling DataLoader that stacks 512 of them; loss and accuracy read
from the device after every batch. Run by `benchmarks/data_path.py`, prints one JSON line.
"""

import argparse
import json
import random
import resource
import time
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

SEED, TRAIN_RATIO, BATCH = 1337, 0.8, 512


class Rows(Dataset):
    """One item a frame, as the sample code has it."""

    def __init__(self, x, y=None):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i] if self.y is None else (self.x[i], self.y[i])


def window(features, n):
    """[frame, 39] -> [frame, 39 · n], edges repeated; each shift is a copy of the utterance."""
    radius = n // 2
    padded = torch.cat([features[:1].repeat(radius, 1), features, features[-1:].repeat(radius, 1)])
    return torch.cat([padded[k : k + len(features)] for k in range(n)], dim=1)


def prepare(root, split, n, labels):
    """All windows of a split in one array, allocated for three million frames like the original's, then cut."""
    if split == "test":
        ids = (root / "test_split.txt").read_text().split()
    else:
        ids = (root / "train_split.txt").read_text().split()
        random.Random(SEED).shuffle(ids)
        cut = int(len(ids) * TRAIN_RATIO)
        ids = ids[:cut] if split == "train" else ids[cut:]
    folder = root / "feat" / ("test" if split == "test" else "train")
    x = torch.empty(3_000_000, 39 * n)
    y = torch.empty(3_000_000, dtype=torch.long)
    end = 0
    for name in ids:
        windows = window(torch.load(folder / f"{name}.pt", weights_only=True), n)
        x[end : end + len(windows)] = windows
        if split != "test":
            y[end : end + len(windows)] = torch.tensor(labels[name])
        end += len(windows)
    return x[:end], (None if split == "test" else y[:end])


def network(n):
    blocks = [layer for i in range(4) for layer in (nn.Linear(39 * n if i == 0 else 256, 256), nn.ReLU())]
    return nn.Sequential(*blocks, nn.Linear(256, 41))


def train(loader, model, updates):
    """Frames per CPU-second over `updates` batches."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    criterion = nn.CrossEntropyLoss()
    right = frames = total = 0
    start = time.process_time()
    for i, (x, y) in enumerate(loader):
        if i == updates:
            break
        optimizer.zero_grad()
        outputs = model(x)
        loss = criterion(outputs, y)
        loss.backward()
        optimizer.step()
        right += (outputs.argmax(-1) == y).sum().item()
        total += loss.item()
        frames += len(y)
    return frames / (time.process_time() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--context", type=int, default=11)
    parser.add_argument("--updates", type=int, default=400)
    args = parser.parse_args()
    torch.manual_seed(0)
    start = time.process_time()
    lines = (line.split(" ") for line in (args.root / "train_labels.txt").read_text().splitlines())
    labels = {name: [int(v) for v in values] for name, *values in lines}
    train_set = Rows(*prepare(args.root, "train", args.context, labels))
    val_set = Rows(*prepare(args.root, "val", args.context, labels))
    prepared = time.process_time() - start
    model = network(args.context)
    speed = train(DataLoader(train_set, batch_size=BATCH, shuffle=True), model, args.updates)
    test_set = Rows(*prepare(args.root, "test", args.context, labels))
    with torch.no_grad():
        for i, x in enumerate(DataLoader(test_set, batch_size=BATCH)):
            model(x).argmax(-1)
            if i == args.updates:
                break
    print(
        json.dumps(
            {
                "frames_per_cpu_second": speed,
                "prepare_cpu_seconds": prepared,
                "validation_frames": len(val_set),
                "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
            }
        )
    )


if __name__ == "__main__":
    main()
