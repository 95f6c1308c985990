"""Which utterances train and which validate: never frames, whose windows overlap, and never both."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from phoneme.errors import InputError


@dataclass(frozen=True)
class Split:
    """Utterance ids on each side of a split."""

    train: tuple[str, ...]
    val: tuple[str, ...]

    def __post_init__(self):
        assert self.train and self.val, "a side of the split is empty"
        assert len({*self.train, *self.val}) == len(self.train) + len(self.val), "an id is on both sides, or twice"


def split_ids(
    ids: Sequence[str],
    speakers: Sequence[str | None],
    *,
    copies: Mapping[str, str] | None = None,
    by: str = "utterance",
    val_fraction: float = 0.1,
    seed: int = 0,
    folds: int | None = None,
    fold: int = 0,
) -> Split:
    """Shuffle groups of ids and cut.

    A group is one utterance, or (by="speaker") all of one speaker's. `Random(seed)` shuffles the groups; of
    n, the first `int(n * (1 - val_fraction))` train and the rest validate. By utterance that is the course's
    own algorithm (its sample code of 2022: seed 1337, fraction 0.2). With `folds`, every folds-th group from
    `fold` on validates instead: the folds are disjoint, and together they are everything.

    `copies` are utterances made from others (at another speed, with noise), with the ids of those. The originals are
    split as if there were no copies; a copy then trains if its original does. One of a validation utterance is on
    neither side: training with it would be training on what is validated.

    Raises:
        InputError: a setting out of its range, an utterance without a speaker, or too few groups to divide.
    """
    copies = copies or {}
    originals = [(id, speaker) for id, speaker in zip(ids, speakers, strict=True) if id not in copies]
    groups = _groups(originals, by)
    least = 2 if folds is None else folds
    if len(groups) < least:
        hint = "use more data, or fewer folds"
        raise InputError(expected=f"at least {least} {by}s to split", got=len(groups), where="data.split", hint=hint)
    held_out = _held_out(len(groups), val_fraction, folds, fold)
    random.Random(seed).shuffle(groups)
    train = [id for place, group in enumerate(groups) if place not in held_out for id in group]
    val = [id for place in held_out for id in groups[place]]
    training = set(train)
    return Split((*train, *(id for id in ids if copies.get(id) in training)), tuple(val))


def _groups(utterances: list[tuple[str, str | None]], by: str) -> list[list[str]]:
    """What stays together of (id, speaker), in an order that does not depend on the machine."""
    if by == "utterance":
        return [[id] for id, _ in utterances]
    if by != "speaker":
        raise InputError(
            expected="utterance or speaker",
            got=by,
            where="data.split.by",
            hint="by: utterance is the course's",
        )
    members: dict[str, list[str]] = {}
    for id, speaker in utterances:
        if speaker is None:
            raise InputError(
                expected="a speaker for each utterance",
                got=f"none for {id}",
                where="data.split.by",
                hint="split by utterance, or set data.speaker_pattern (the 2021 homework tells no speakers)",
            )
        members.setdefault(speaker, []).append(id)
    return [members[speaker] for speaker in sorted(members)]


def _held_out(n: int, val_fraction: float, folds: int | None, fold: int) -> range:
    """Which of n places validate: at least one, and not all."""
    if fold not in range(1 if folds is None else folds) or folds == 1:
        raise InputError(
            expected="a number of folds, two or more, and one of them, counted from 0",
            got=f"folds={folds}, fold={fold}",
            where="data.split.fold",
            hint="for five-fold cross-validation: data.split.folds=5 data.split.fold=0,1,2,3,4 -m",
        )
    if folds is not None:
        return range(fold, n, folds)
    if not 0 < val_fraction < 1:
        hint = "0.1 holds out a tenth"
        where = "data.split.val_fraction"
        raise InputError(expected="a share between 0 and 1", got=val_fraction, where=where, hint=hint)
    return range(min(max(int(n * (1 - val_fraction)), 1), n - 1), n)
