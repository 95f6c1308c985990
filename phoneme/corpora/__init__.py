"""Corpus formats, one file each. To add one: write a class that is a `Corpus`, and list it in `CORPORA`."""

import inspect
from pathlib import Path

from phoneme.build import did_you_mean
from phoneme.columns import COURSE, Features
from phoneme.corpora.audio import Audio
from phoneme.corpora.base import SPLITS, Corpus, Problem, Utterance, Utterances
from phoneme.corpora.featured import with_features
from phoneme.corpora.libriphone import LibriPhone
from phoneme.corpora.timit11 import Timit11
from phoneme.errors import InputError

__all__ = [
    "CORPORA",
    "SPLITS",
    "Audio",
    "Corpus",
    "LibriPhone",
    "Problem",
    "Timit11",
    "Utterance",
    "Utterances",
    "open_corpus",
]

CORPORA = {corpus.name: corpus for corpus in (LibriPhone, Timit11, Audio)}


def open_corpus(name: str, root: str | Path, *, features: Features = COURSE, **options) -> Corpus:
    """The corpus in the folder `root`, in the format `name`; `options` are further keywords of its class.

    Raises:
        InputError: no such format, no such option, the folder does not hold such a corpus, or features that cannot be
            made from it.
    """
    if name not in CORPORA:
        hint = did_you_mean(name, CORPORA)
        raise InputError(expected="a corpus format", got=repr(name), where="data.name", hint=hint)
    parameters = inspect.signature(CORPORA[name]).parameters.keys() - {"root"}
    known = parameters - {"features"}
    for option in options.keys() - known:
        hint = did_you_mean(option, known)
        raise InputError(expected=f"an option of {name}", got=option, where=f"data.{option}", hint=hint)
    if "features" in parameters:  # it computes the columns itself
        options["features"] = features
    return with_features(CORPORA[name](root, **options), features)
