"""Real windows to overfit on."""

from pathlib import Path

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from phoneme.losses import IGNORE

SAMPLE = Path(__file__).parents[2] / "data" / "sample"
CONTEXT = 11
FRAMES = 256


@pytest.fixture(scope="session")
def real_windows():
    """The first frames of one utterance of the bundled sample: windows [256, 11, 39] and labels [256]."""
    name, *labels = (SAMPLE / "train_labels.txt").read_text().splitlines()[3].split()
    frames = torch.load(SAMPLE / "feat" / "train" / f"{name}.pt", weights_only=True)
    around = torch.arange(FRAMES)[:, None] + torch.arange(-(CONTEXT // 2), CONTEXT // 2 + 1)
    return frames[around.clamp(0, len(frames) - 1)], torch.tensor([int(label) for label in labels[:FRAMES]])


@pytest.fixture
def overfit(real_windows):
    """Trains a model on these windows alone and gives the share it has learned."""

    def train(model: torch.nn.Module, steps: int, lr: float) -> float:
        windows, labels = real_windows
        optimizer = torch.optim.Adam(model.parameters(), lr=lr)
        for _ in range(steps):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(windows), labels).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            return (model(windows).argmax(dim=1) == labels).float().mean().item()

    return train


@pytest.fixture(scope="session")
def real_utterances():
    """The four shortest utterances of the bundled sample, padded: features [4, frame, 39], lengths, labels."""
    rows = [line.split() for line in (SAMPLE / "train_labels.txt").read_text().splitlines()]
    rows = sorted(rows, key=len)[:4]
    frames = [torch.load(SAMPLE / "feat" / "train" / f"{name}.pt", weights_only=True) for name, *_ in rows]
    labels = [torch.tensor([int(label) for label in labels]) for _, *labels in rows]
    return (
        pad_sequence(frames, batch_first=True),
        torch.tensor([len(f) for f in frames]),
        pad_sequence(labels, batch_first=True, padding_value=IGNORE),
    )
