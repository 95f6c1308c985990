"""The lab on the bundled speech, small."""

from functools import cache
from typing import Any

import torch

from phoneme.columns import COURSE
from phoneme.config import shipped
from phoneme.corpora import open_corpus
from phoneme.datamodule import PhonemeData
from phoneme.lab import Bench, Experiment, Own, Speech, perform
from phoneme.splits import split_ids
from phoneme.store import FrameStore, open_store

NETWORK = {
    "_target_": "phoneme.models.Mlp",
    "context": 3,
    "depth": 2,
    "width": 32,
    "parameters": None,
    "norm": "none",
    "activation": "relu",
    "dropout": 0.0,
    "residual": False,
}
SPEAKER = r"^([^-]+)-"


@cache
def bundled_store() -> FrameStore:
    corpus = open_corpus(name="libriphone", root=str(shipped("data/sample")), speaker_pattern=SPEAKER, features=COURSE)
    return open_store(corpus, "train")


def bundled_speech(context: int) -> Speech:
    store = bundled_store()
    split = split_ids(store.ids, store.speakers, val_fraction=0.2)
    return Speech(PhonemeData(store, split, unit="frame", context=context), torch.device("cpu"))


def small_bench(seeds: int = 3, budget: str = "quick", checkpoint: Own | None = None, **network: Any) -> Bench:
    """On real speech, with a network of these settings."""
    section = {**NETWORK, **network}
    return Bench(tuple(range(seeds)), budget, torch.device("cpu"), section, bundled_speech, checkpoint)


def verdicts(experiment: Experiment, bench: Bench, **conditions: Any) -> dict[str, str]:
    """By row of the lecture, of a run under these conditions."""
    return {row: found["verdict"] for row, found in perform(experiment, bench, **conditions)["rows"].items()}
