"""The lab on the bundled speech, small."""

from functools import cache
from typing import Any

import torch

from phoneme.columns import COURSE
from phoneme.config import shipped
from phoneme.corpora import Corpus, open_corpus
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
    return open_store(_corpus("sample", SPEAKER), "train")


@cache
def bundled_test() -> FrameStore:
    return open_store(_corpus("sample", SPEAKER), "test")


@cache
def accented_store() -> FrameStore:
    return open_store(_corpus("accented", r"^(\d{5})"), "train")


def _corpus(folder: str, speaker: str) -> Corpus:
    return open_corpus(name="libriphone", root=str(shipped(f"data/{folder}")), speaker_pattern=speaker, features=COURSE)


def bundled_speech(context: int) -> Speech:
    return _speech(bundled_store(), context)


def accented_speech(context: int) -> Speech:
    return _speech(accented_store(), context, by="speaker")


def _speech(store: FrameStore, context: int, by: str = "utterance") -> Speech:
    split = split_ids(store.ids, store.speakers, val_fraction=0.2, by=by)
    return Speech(PhonemeData(store, split, unit="frame", context=context), torch.device("cpu"))


def small_bench(seeds: int = 3, budget: str = "quick", checkpoint: Own | None = None, **network: Any) -> Bench:
    """On real speech, with a network of these settings."""
    section = {**NETWORK, **network}
    return Bench(
        seeds=tuple(range(seeds)),
        budget=budget,
        device=torch.device("cpu"),
        network=section,
        open_speech=bundled_speech,
        open_accented=accented_speech,
        open_test=bundled_test,
        checkpoint=checkpoint,
    )


def verdicts(experiment: Experiment, bench: Bench, **conditions: Any) -> dict[str, str]:
    """By row of the lecture, of a run under these conditions."""
    return {row: found["verdict"] for row, found in perform(experiment, bench, **conditions)["rows"].items()}
