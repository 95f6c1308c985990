"""A corpus with the chosen columns and scale in place of its own."""

from dataclasses import replace
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from phoneme.columns import COURSE, LOG_MEL, OVER_THE_UTTERANCE, Features
from phoneme.corpora.base import Corpus, Problem, Utterance, Utterances
from phoneme.errors import InputError
from phoneme.features import Moments, scale


def with_features(corpus: Corpus, features: Features) -> Corpus:
    """The corpus with these features: itself where it has them already.

    Raises:
        InputError: they cannot be made from what the corpus has, or not on the scale they were measured on.
    """
    _check(corpus, features)
    own = features.normalise == "auto" and (corpus.source == "audio" or features.name == COURSE.name)
    return corpus if own else Featured(corpus, features)


def _check(corpus: Corpus, features: Features) -> None:
    if corpus.source != "audio" and features.name == LOG_MEL:
        raise InputError(
            expected="recordings, from which log-mel energies can be computed",
            got=f"{corpus.name}, whose files hold cepstral coefficients",
            where="features.name",
            hint="data=audio reads recordings; features=time_deltas or both need the 13 statics only",
        )
    if corpus.source == "columns" and features.name != COURSE.name:
        raise InputError(
            expected="frames of 13 statics, 13 deltas and 13 delta-deltas",
            got=f"{corpus.name} with {corpus.coeffs} columns whose order is not known",
            where="features.name",
            hint="features=course takes the columns as they are; features.normalise works on any",
        )
    made_from = features.source or corpus.source
    if made_from != corpus.source and features.normalise not in OVER_THE_UTTERANCE:
        raise InputError(
            expected=f"frames made from {made_from}, as those of the checkpoint: {features}",
            got=f"{corpus.name}, made from {corpus.source}",
            where="data.root",
            hint="only features that are normalised over the utterance have the same scale from both",
        )


class Featured:
    """The columns and the scale that `features` names; files, splits and labels are those of `corpus`."""

    def __init__(self, corpus: Corpus, features: Features):
        self.corpus, self.features = corpus, features
        self.name, self.root, self.phones, self.source = corpus.name, corpus.root, corpus.phones, corpus.source
        self.coeffs = corpus.coeffs if corpus.source == "columns" else features.coeffs
        # not `source`, which changes nothing: a checkpoint's features are the same cache entry as those of its training
        self.options = corpus.options | {"features": replace(features, source=None).to_dict()}

    def has_split(self, split: str) -> bool:
        return self.corpus.has_split(split)

    def files(self, split: str) -> list[Path]:
        return self.corpus.files(split)

    def utterances(self, split: str) -> "FeaturedUtterances":
        return FeaturedUtterances(self, self.corpus.utterances(split))


class FeaturedUtterances:
    """One split. With normalise=speaker all of it is read once to measure, when it is opened."""

    def __init__(self, corpus: Featured, utterances: Utterances):
        self.features, self.utterances, self.ids = corpus.features, utterances, utterances.ids
        self.from_columns = corpus.source == "mfcc39"
        self.speakers = self._measure_speakers() if self.features.normalise == "speaker" else {}

    def read(self, position: int) -> Utterance | list[Problem]:
        answer = self._columns(position)
        if isinstance(answer, list):
            return answer
        try:
            return replace(answer, features=self._scaled(answer))
        except InputError as error:
            return [Problem(answer.id, None, f"expected {error.expected}, got {error.got}", error.hint)]

    def _columns(self, position: int) -> Utterance | list[Problem]:
        """The utterance with the chosen columns, before they are scaled."""
        answer = self.utterances.read(position)
        if isinstance(answer, list) or not self.from_columns:
            return answer
        try:
            return replace(answer, features=self.features.of_columns(answer.features))
        except InputError as error:
            return [Problem(answer.id, None, f"expected {error.expected}, got {error.got}", error.hint)]

    def _scaled(self, answer: Utterance) -> Float[Tensor, "frame coeff"]:
        if self.features.normalise != "speaker":
            return self.features.scaled(answer.features)
        moments = self.speakers[answer.speaker]
        return scale(answer.features, moments.mean, moments.deviation)

    def _measure_speakers(self) -> dict[str, Moments]:
        """Of each speaker's own utterances; copies at another speed or with noise are left out.

        Raises:
            InputError: an utterance without a speaker.
        """
        found: dict[str, Moments] = {}
        for position in range(len(self.ids)):
            answer = self._columns(position)
            if isinstance(answer, list) or answer.copy_of is not None:
                continue
            if answer.speaker is None:
                raise InputError(
                    expected="a speaker for each utterance",
                    got=f"none for {answer.id}",
                    where="features.normalise",
                    hint="use utterance or global, or set data.speaker_pattern (the 2021 homework tells no speakers)",
                )
            found.setdefault(answer.speaker, Moments()).add(answer.features)
        return found
