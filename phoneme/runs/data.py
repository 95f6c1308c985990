"""Open the stores that a run's data section asks for, with the features of the run or of a checkpoint; make batches."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from phoneme.columns import COURSE, Features
from phoneme.corpora import Corpus, open_corpus
from phoneme.datamodule import PhonemeData
from phoneme.errors import InputError
from phoneme.splits import Split
from phoneme.store import FrameStore, find_statistics, open_store
from phoneme.submission import check_sample

log = logging.getLogger(__name__)

STORE_OPTIONS = ("dtype", "cache_dir", "on_bad_utterance", "workers")
CORPUS_OPTIONS = ("name", "root", "speaker_pattern", "speeds", "noise_snr_db")


@dataclass(frozen=True)
class Stores:
    """The frames of a corpus: to train and validate on, and to hand in if the folder has a test split.

    `features` are those of the frames, with the statistics that normalised them: what a checkpoint has to remember.
    """

    train: FrameStore
    test: FrameStore | None
    features: Features


def open_stores(data: dict[str, Any], features: Features = COURSE) -> Stores:
    """The stores of a data section; built on first use, from the cache afterwards.

    The test split is opened now, not after the training: a bad test file has to stop a run before it costs anything.
    """
    options = _store_options(data)
    if features.normalise == "global":
        unscaled = _corpus(data, replace(features, normalise="none"))
        rest = {name: value for name, value in options.items() if name != "dtype"}
        features = features.measured(*find_statistics(unscaled, **rest))
    corpus = _corpus(data, features)
    test = open_store(corpus, "test", **options) if corpus.has_split("test") else None
    return Stores(open_store(corpus, "train", **options), test, replace(features, source=corpus.source))


def prepare(
    section: dict[str, Any], stores: Stores, split: Split, *, unit: str, context: int, seed: int
) -> PhonemeData:
    """The data module of a data section for a model that labels `unit`s. Raises InputError for a bad sample file."""
    if section["sample_submission"]:
        if stores.test is None:
            raise InputError(
                expected="a folder with a test split",
                got="none",
                where="data.sample_submission",
                hint="without test frames there is no submission to check: set it to null",
            )
        check_sample(section["sample_submission"], stores.test.n_frames)
    log.info(
        "%s: %d utterances to train on, %d to validate, %d to predict",
        section["name"],
        len(split.train),
        len(split.val),
        len(stores.test) if stores.test else 0,
    )
    return PhonemeData(
        stores.train,
        split,
        unit=unit,
        context=context,
        batch_size=section["batch_size"],
        eval_batch_size=section["eval_batch_size"],
        batch_frames=section["batch_frames"],
        batch_utterances=section["batch_utterances"],
        device=section["device"],
        seed=seed,
    )


def open_train(data: dict[str, Any], features: Features = COURSE) -> FrameStore:
    """The labelled utterances of a data section, with the features of a checkpoint."""
    return open_store(_corpus(data, features), "train", **_store_options(data))


def check_fit(store: FrameStore, coeffs: int, phones: tuple[str, ...]) -> None:
    """Raise InputError unless these frames are what the network of a checkpoint was made for."""
    if store.coeffs != coeffs:
        raise InputError(
            expected=f"{coeffs} coefficients a frame, as the checkpoint has",
            got=store.coeffs,
            where="data.root",
            hint="take features made like those of the training",
        )
    if store.phones.phones != phones:
        raise InputError(
            expected=f"the {len(phones)} classes of the checkpoint: {', '.join(phones[:4])}, …",
            got=f"{len(store.phones)}: {', '.join(store.phones.phones[:4])}, …",
            where="data.root",
            hint="take the corpus of the training; a phones.txt in the folder names its classes",
        )


def open_test(data: dict[str, Any], features: Features = COURSE) -> FrameStore:
    """The test split of a data section, with the features of a checkpoint. Raises InputError if the folder has none."""
    store = find_test(data, features)
    if store is None:
        raise InputError(
            expected="a folder with a test split",
            got="none",
            where=data["root"],
            hint="set data=... data.root=... to the homework's folder",
        )
    return store


def warn_of_known(test: FrameStore, labelled: Iterable[str]) -> None:
    """A word if utterances to predict, by their names, are among those that were trained or validated on."""
    seen = set(labelled)
    if known := [id for id in test.ids if id in seen]:
        log.warning(
            "%d of the %d utterances to predict were trained or validated on, e.g. %s: their accuracy says nothing of "
            "new speech (the course forbids to mix its years: the labels of 2022 hold the answers of 2023)",
            len(known),
            len(test),
            known[0],
        )


def find_test(data: dict[str, Any], features: Features = COURSE) -> FrameStore | None:
    """The test split of a data section, None if the folder has none."""
    corpus = _corpus(data, features)
    return open_store(corpus, "test", **_store_options(data)) if corpus.has_split("test") else None


def _corpus(data: dict[str, Any], features: Features) -> Corpus:
    return open_corpus(**{key: data[key] for key in CORPUS_OPTIONS if key in data}, features=features)


def _store_options(data: dict[str, Any]) -> dict[str, Any]:
    return {key: data[key] for key in STORE_OPTIONS}
