"""Small corpus folders for tests, made from the bundled speech."""

import shutil
from pathlib import Path

import numpy as np
import torch

AUDIO = Path(__file__).parent / "data" / "audio"
SAMPLE = Path(__file__).parents[1] / "data" / "sample"
TRAIN = tuple((SAMPLE / "train_split.txt").read_text().split())
TEST = tuple((SAMPLE / "test_split.txt").read_text().split())
LABELS = {line.split()[0]: line.split()[1:] for line in (SAMPLE / "train_labels.txt").read_text().splitlines()}


def features(id: str) -> torch.Tensor:
    """The features of a bundled utterance."""
    split = "train" if id in TRAIN else "test"
    return torch.load(SAMPLE / "feat" / split / f"{id}.pt", weights_only=True)


def libriphone_folder(folder: Path, n_train: int = 4, n_test: int = 2) -> Path:
    """A homework folder with the first bundled utterances; ruin what you like. Labels in reverse order."""
    for split, ids in (("train", TRAIN[:n_train]), ("test", TEST[:n_test])):
        (folder / "feat" / split).mkdir(parents=True)
        for id in ids:
            shutil.copyfile(SAMPLE / "feat" / split / f"{id}.pt", folder / "feat" / split / f"{id}.pt")
        (folder / f"{split}_split.txt").write_text("\n".join(ids))
    write_labels(folder, {id: LABELS[id] for id in reversed(TRAIN[:n_train])})
    shutil.copyfile(SAMPLE / "phones.txt", folder / "phones.txt")
    return folder


def write_labels(folder: Path, labels: dict[str, list[str]]) -> None:
    """`train_labels.txt` with these lines, in this order."""
    lines = [" ".join([id, *of_frames]) for id, of_frames in labels.items()]
    (folder / "train_labels.txt").write_text("\n".join(lines))


def audio_folder(folder: Path) -> Path:
    """The three bundled recordings with their alignments; ruin what you like."""
    folder.mkdir(parents=True)
    for path in (*AUDIO.glob("*.flac"), AUDIO / "alignments.jsonl"):
        shutil.copyfile(path, folder / path.name)
    return folder


def windows(frames: np.ndarray, context: int = 11) -> np.ndarray:
    """`[frame, context * coeff]`: each frame with its neighbours, the edge frames repeated."""
    frame, offset = np.arange(len(frames))[:, None], np.arange(context) - context // 2
    return frames[np.clip(frame + offset, 0, len(frames) - 1)].reshape(len(frames), -1)


def timit11_folder(folder: Path, n_train: int = 4, n_test: int = 2) -> Path:
    """The same utterances as windows of 11 frames, in the format of 2021, with labels of its 39 classes."""
    folder.mkdir(parents=True, exist_ok=True)
    train, test = TRAIN[:n_train], TEST[:n_test]
    np.save(folder / "train_11.npy", np.concatenate([windows(features(id).numpy()) for id in train]))
    np.save(folder / "test_11.npy", np.concatenate([windows(features(id).numpy()) for id in test]))
    labels = [str(int(label) % 39) for id in train for label in LABELS[id]]
    np.save(folder / "train_label_11.npy", np.array(labels))
    return folder
