"""A4: which of a few models is best, by one split of a small data set, and by N-fold cross-validation?"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

import torch
from torch import nn

from phoneme.lab.bench import Bench
from phoneme.lab.descent import descend, score
from phoneme.lab.experiment import Experiment, Measured
from phoneme.lab.pictures import Bars, Panel, Picture
from phoneme.lab.rules import Claim, Rule
from phoneme.lab.speech import Frames, Speech
from phoneme.models import Linear, Mlp
from phoneme.wording import digits

FOLDS = 4
UTTERANCES, FRAMES = 3, 60  # of a fold: a small data set is 12 utterances, 240 frames
CONTEXT = 11  # frames of the widest candidate
STEPS, RATE = 30, 1e-2  # updates on all frames at once, by Adam; ten times its authors' rate for so few of them
HELD_OUT = 4000  # frames that no data set sees


@dataclass(frozen=True)
class Candidate:
    """A linear model, or one hidden layer of `width`, on windows of `context` frames."""

    context: int
    width: int | None = None

    def model(self, coeffs: int, classes: int) -> nn.Module:
        if self.width is None:
            return Linear(coeffs=coeffs, classes=classes, context=self.context)
        return Mlp(coeffs=coeffs, classes=classes, context=self.context, depth=1, width=self.width)

    def __str__(self) -> str:
        return f"{'linear' if self.width is None else f'{self.width} units'}, context {self.context}"


CANDIDATES = (Candidate(1), Candidate(3), Candidate(7), Candidate(11), Candidate(3, 32))
Estimates = list[list[float]]  # of each fold held out, the accuracy of each candidate


def pairs_right(estimate: Sequence[float], truth: Sequence[float]) -> float:
    """Of all pairs of models the share whose order the estimate has right; a tie is half right.

    >>> pairs_right([0.1, 0.3, 0.2], [1.0, 2.0, 3.0]), pairs_right([0.0, 0.0, 0.0], [1.0, 2.0, 3.0])
    (0.6666666666666666, 0.5)
    """
    pairs = list(combinations(range(len(truth)), 2))
    return fmean(_agrees(estimate[i] - estimate[j], truth[i] - truth[j]) for i, j in pairs)


def _agrees(one: float, other: float) -> float:
    return 0.5 if one * other == 0 else float(one * other > 0)


def regret(estimate: Sequence[float], truth: Sequence[float]) -> float:
    """True accuracy of the best model minus that of the one with the best estimate (the mean, if several have it).

    >>> regret([0.5, 0.4], [0.1, 0.3]), regret([0.4, 0.4], [0.25, 0.75])
    (0.19999999999999998, 0.25)
    """
    chosen = [true for value, true in zip(estimate, truth, strict=True) if value == max(estimate)]
    return max(truth) - fmean(chosen)


def measure(bench: Bench, data_sets: int | None = None, averaged: int = FOLDS) -> Measured:
    """`averaged` is the number of folds over which cross-validation takes the mean."""
    data_sets = data_sets or bench.choose(15, 30)
    speech = bench.open_speech(CONTEXT)
    estimates: list[list[Estimates]] = []  # of each seed, each data set
    reached: list[list[float]] = []  # of each data set of any seed, what each candidate reaches on held-out frames
    for seed in bench.track(bench.seeds, "cross-validation"):
        held_out = speech.val(HELD_OUT, seed)
        sets = [_draw(speech, seed * data_sets + number) for number in range(data_sets)]
        estimates.append([_cross_validate(folds, speech.classes, seed) for folds in sets])
        reached += [_fit_all(_joined(folds), held_out, speech.classes, seed) for folds in sets]
    truth = [fmean(values) for values in zip(*reached, strict=True)]
    found = {
        name: {way: [_mean_over(rows, of, truth, averaged, way) for rows in estimates] for way in ("split", "folds")}
        for name, of in (("pairs_right", pairs_right), ("regret", regret))
    }
    right, lost = found["pairs_right"], found["regret"]
    return Measured(
        effects={
            "order_gained": [a - b for a, b in zip(right["folds"], right["split"], strict=True)],
            "regret_saved": [b - a for a, b in zip(lost["folds"], lost["split"], strict=True)],
        },
        pictures=(_picture(right, lost),),
        numbers={
            "true_accuracy": {str(candidate): true for candidate, true in zip(CANDIDATES, truth, strict=True)},
            **found,
            "data_sets_a_seed": data_sets,
            "frames_of_a_data_set": FOLDS * FRAMES,
        },
    )


def _draw(speech: Speech, seed: int) -> list[Frames]:
    """A small data set: a fold has frames of utterances of its own."""
    ids = random.Random(seed).sample(speech.split.train, FOLDS * UTTERANCES)
    return [speech.frames(tuple(ids[fold::FOLDS]), FRAMES, seed) for fold in range(FOLDS)]


def _joined(folds: list[Frames]) -> Frames:
    return Frames(torch.cat([fold.inputs for fold in folds]), torch.cat([fold.targets for fold in folds]))


def _cross_validate(folds: list[Frames], classes: int, seed: int) -> Estimates:
    return [
        _fit_all(_joined(folds[:number] + folds[number + 1 :]), fold, classes, seed)
        for number, fold in enumerate(folds)
    ]


def _fit_all(train: Frames, test: Frames, classes: int, seed: int) -> list[float]:
    """The accuracy of each candidate, fitted to `train`."""
    accuracies = []
    for candidate in CANDIDATES:
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            model = candidate.model(train.inputs.shape[2], classes).to(train.targets.device)
        optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
        descend(model, _middle(train, candidate.context), optimizer, steps=STEPS, batch_size=None, seed=seed)
        accuracies.append(score(model, _middle(test, candidate.context)).accuracy)
    return accuracies


def _middle(frames: Frames, context: int) -> Frames:
    """The same frames in narrower windows."""
    cut = (frames.inputs.shape[1] - context) // 2
    return Frames(frames.inputs[:, cut : cut + context].contiguous(), frames.targets)


def _mean_over(rows: list[Estimates], of: Callable[..., float], truth: list[float], averaged: int, way: str) -> float:
    """Of data sets, by the mean of the folds, or by one of them (and then over which one that is)."""
    if way == "split":
        return fmean(of(fold, truth) for folds in rows for fold in folds)
    return fmean(of([fmean(values) for values in zip(*folds[:averaged], strict=True)], truth) for folds in rows)


def _picture(right: dict[str, list[float]], lost: dict[str, list[float]]) -> Picture:
    labels = ("one split", f"{FOLDS}-fold cross-validation")
    shares = {way: digits(100 * fmean(values), 2) for way, values in right.items()}
    return Picture(
        "ranking",
        f"One split puts {shares['split']} % of the pairs of models in the right order, "
        f"{FOLDS}-fold cross-validation {shares['folds']} %",
        (
            Panel("", "pairs of models in the right order (%)", (Bars(labels, _percent(right)),)),
            Panel("", "accuracy lost by the choice (points of %)", (Bars(labels, _percent(lost)),)),
        ),
    )


def _percent(found: dict[str, list[float]]) -> list[list[float]]:
    return [[100 * value for value in found[way]] for way in ("split", "folds")]


EXPERIMENT = Experiment(
    name="cross_validation",
    title="N-fold cross-validation against one split",
    claims={
        "A4": Claim(
            says="On small data sets, N-fold cross-validation ranks models more reliably than one split into training "
            "and validation, and the model it chooses is the better one.",
            refuted_by="As many pairs of models in the right order by one split, or as good a choice.",
        )
    },
    rules=(
        Rule(
            "A4",
            "order_gained",
            "share of the pairs of models in the right order, by cross-validation minus by one split",
            above=0.03,
        ),
        Rule(
            "A4",
            "regret_saved",
            "true accuracy of the model that cross-validation chooses, minus of the one that one split chooses",
            above=0.002,
        ),
    ),
    measure=measure,
)
