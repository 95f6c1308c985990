"""A5: can training frames be told from others by the inputs alone, and does more data help where they can?"""

import math
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import torch
from jaxtyping import Float64, Int64
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from torch import Tensor, nn

from phoneme.lab.bench import Bench
from phoneme.lab.descent import EVALUATED, descend
from phoneme.lab.experiment import Experiment, Measured
from phoneme.lab.pictures import Bars, Level, Line, Panel, Picture
from phoneme.lab.rules import Claim, Rule
from phoneme.lab.speech import Frames, Speech
from phoneme.splits import Split, split_ids
from phoneme.store import FrameStore
from phoneme.wording import digits

DRAWN, FOLDS = 2500, 4  # frames a side; folds of utterances or speakers
PENALTY = 1e-2  # C of the logistic regression: as conf/baseline/logistic.yaml
SIZES = (3000, 9000, 24000)  # native frames to train on; of accented ones the first
TESTED = 1500  # frames of each kind that are tested
RATE, BATCH = 1e-3, 128  # of Adam: its authors' rate
OF_ACCURACY = ("accuracy_lost", "native_gap_closed", "accented_gap_closed", "own_kind_gain")  # effects
HELD_OUT, HELD_OUT_SPEAKERS = 0.2, 1 / 3  # share of the native utterances, of the accented speakers


@dataclass(frozen=True)
class Side:
    """Some utterances, without copies of them; those of one group are never on both sides of a fold."""

    store: FrameStore
    ids: tuple[str, ...]
    by: str = "utterance"  # or speaker

    def draw(self, seed: int) -> tuple[Float64[np.ndarray, "n coeff"], list[str]]:
        """Single frames, and the group of each."""
        rows = self.store.rows_of([id for id in self.ids if id not in self.store.copies])
        index = self.store.frame_indices(rows)
        index = index[torch.randperm(len(index), generator=torch.Generator().manual_seed(seed))[:DRAWN]]
        utterance = torch.searchsorted(self.store.offsets.cpu(), index, right=True) - 1
        names = self.store.speakers if self.by == "speaker" else self.store.ids
        frames = self.store.frames[index.to(self.store.frames.device)]
        return frames.cpu().double().numpy(), [str(names[row]) for row in utterance.tolist()]


def told_apart(one: Side, other: Side, seed: int) -> float:
    """AUC of a classifier that tells the frames of two sides apart, on groups that it has not seen.

    Logistic regression on all products of two coefficients: on the coefficients alone it would see nothing, for each
    has the mean 0 over every utterance. 0.5 is chance; below it is chance as well.
    """
    (left, left_groups), (right, right_groups) = one.draw(seed), other.draw(seed)
    inputs = np.concatenate([left, right])
    is_other = np.repeat([0, 1], [len(left), len(right)])
    groups = np.array([f"one {name}" for name in left_groups] + [f"other {name}" for name in right_groups])
    pairs = PolynomialFeatures(2, include_bias=False)
    classifier = make_pipeline(pairs, StandardScaler(), LogisticRegression(C=PENALTY, max_iter=500, tol=1e-3))
    said = np.zeros(len(inputs))
    for known, unknown in StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(inputs, is_other, groups):
        classifier.fit(inputs[known], is_other[known])
        said[unknown] = classifier.decision_function(inputs[unknown])
    return float(roc_auc_score(is_other, said))


def measure(bench: Bench, steps: int | None = None, other: Speech | None = None) -> Measured:
    """`other` stands in for the accented speech."""
    steps = steps or bench.choose(1000, 3000)
    native, accented = bench.speech, other or bench.open_accented(bench.speech.context)
    test = bench.open_test()
    comparable = native.store.phones.phones == accented.store.phones.phones
    auc: dict[str, list[float]] = {"held_out": [], "test": [], "accented": []}
    found: list[dict[str, dict[str, float]]] = []
    for seed in bench.track(bench.seeds, "mismatch"):
        halves = _split(native, "utterance", 0.5, seed)
        whole = Side(native.store, native.store.ids)
        auc["held_out"].append(told_apart(*(Side(native.store, ids) for ids in (halves.train, halves.val)), seed))
        auc["accented"].append(told_apart(whole, Side(accented.store, accented.store.ids, "speaker"), seed))
        if test is not None:
            auc["test"].append(told_apart(whole, Side(test, test.ids), seed))
        if comparable:
            found.append(_accuracies(bench, native, accented, seed, steps))
    gaps = _gaps(found)
    effects = _effects(found, gaps) if comparable else dict.fromkeys(OF_ACCURACY, [math.nan] * len(bench.seeds))
    return Measured(
        effects={"auc_held_out": auc["held_out"], "auc_accented": auc["accented"], **effects},
        pictures=(_auc_picture(auc), *((_gap_picture(gaps),) if comparable else ())),
        numbers={
            "auc": auc,
            "accuracy": found if comparable else "not measured: the classes are not those of the accented speech",
            "frames_trained_on": SIZES,
            "updates": steps,
            "not_told_apart": "accent, new speakers, other recordings, worse labels and children: half of the accented "
            "corpus's speakers are children, but which is not known; own_kind_gain is what their own kind wins back",
        },
    )


def _split(speech: Speech, by: str, share: float, seed: int) -> Split:
    store = speech.store
    return split_ids(store.ids, store.speakers, copies=store.copies, by=by, val_fraction=share, seed=seed)


def _accuracies(bench: Bench, native: Speech, accented: Speech, seed: int, steps: int) -> dict[str, dict[str, float]]:
    """By the frames trained on, what is right of those, of held-out native and of held-out accented frames.

    Each class counts as often as in the held-out native frames: accented utterances may have more silence, which is
    easy.
    """
    split = _split(native, "utterance", HELD_OUT, seed)
    theirs = _split(accented, "speaker", HELD_OUT_SPEAKERS, seed)
    val, foreign = native.frames(split.val, TESTED, seed), accented.frames(theirs.val, TESTED, seed)
    shares = torch.bincount(val.targets, minlength=native.classes) * (
        torch.bincount(foreign.targets, minlength=native.classes) > 0
    )
    trained_on = {str(size): native.frames(split.train, size, seed) for size in SIZES}
    trained_on["accented"] = accented.frames(theirs.train, SIZES[0], seed)
    found = {}
    for name, train in trained_on.items():
        model = bench.model(seed)
        optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
        descend(model, train, optimizer, steps=steps, batch_size=BATCH, seed=seed)
        sides = {"training": train, "native": val, "accented": foreign}
        found[name] = {side: weighted_accuracy(model, frames, shares) for side, frames in sides.items()}
    return found


@torch.no_grad()
def weighted_accuracy(model: nn.Module, frames: Frames, shares: Int64[Tensor, " classes"]) -> float:
    """Share of the frames that are labelled right, where class c counts `shares[c]` times; of the classes there."""
    model.eval()
    right = torch.cat([model(inputs).argmax(1) for inputs in frames.inputs.split(EVALUATED)]) == frames.targets
    counts = torch.bincount(frames.targets, minlength=len(shares))
    hits = torch.bincount(frames.targets, weights=right.double(), minlength=len(shares))
    shares = shares * (counts > 0)
    return ((hits / counts.clamp(min=1)) @ shares.double() / shares.sum()).item()


def _gaps(found: list[dict[str, dict[str, float]]]) -> dict[str, list[list[float]]]:
    """Of each seed, by the number of frames: training minus held-out native, and that minus held-out accented."""
    pairs = {"native": ("training", "native"), "accented": ("native", "accented")}
    return {
        name: [[scores[str(size)][more] - scores[str(size)][less] for size in SIZES] for scores in found]
        for name, (more, less) in pairs.items()
    }


def _effects(found: list[dict[str, dict[str, float]]], gaps: dict[str, list[list[float]]]) -> dict[str, list[float]]:
    return {
        "accuracy_lost": [row[-1] for row in gaps["accented"]],
        "native_gap_closed": [row[0] - row[-1] for row in gaps["native"]],
        "accented_gap_closed": [row[0] - row[-1] for row in gaps["accented"]],
        "own_kind_gain": [scores["accented"]["accented"] - scores[str(SIZES[0])]["accented"] for scores in found],
    }


def _auc_picture(auc: dict[str, list[float]]) -> Picture:
    labels = {"held_out": "the same speakers", "test": "the test split", "accented": "accented speech"}
    measured = {name: values for name, values in auc.items() if values}
    said = ", ".join(f"{labels[name]} {digits(fmean(values), 2)}" for name, values in measured.items())
    return Picture(
        "auc",
        f"How well a classifier tells other frames from training frames (AUC): {said}",
        (
            Panel(
                "",
                "AUC (0.5: cannot be told apart)",
                (Bars([labels[name] for name in measured], list(measured.values())), Level("chance", 0.5)),
            ),
        ),
    )


def _gap_picture(gaps: dict[str, list[list[float]]]) -> Picture:
    percent = {name: [[100 * gap for gap in row] for row in rows] for name, rows in gaps.items()}
    ends = {name: [digits(fmean(row[end] for row in rows), 2) for end in (0, -1)] for name, rows in percent.items()}
    return Picture(
        "gaps",
        f"With {SIZES[-1] // SIZES[0]} times the native data the gap to held-out native speech goes from "
        f"{ends['native'][0]} to {ends['native'][1]} points, that to accented speech from {ends['accented'][0]} to "
        f"{ends['accented'][1]}",
        (
            Panel(
                "native frames trained on",
                "accuracy gap (points of %)",
                (
                    Line("training − held-out native", SIZES, percent["native"]),
                    Line("held-out native − accented", SIZES, percent["accented"]),
                ),
            ),
        ),
    )


EXPERIMENT = Experiment(
    name="mismatch",
    title="Mismatch: when more data does not help",
    claims={
        "A5": Claim(
            says="Frames of another kind of speech (accented, for a network trained on native) can be told from "
            "training frames by their features; held-out frames of the same kind cannot. A network loses accuracy on "
            "them. More training data of the old kind narrows the gap between training and held-out frames of it, not "
            "the gap to the new kind.",
            refuted_by="A classifier that tells held-out native frames apart, or not the accented ones; no loss of "
            "accuracy; a gap that more native data closes; or training on accented speech that helps it no more.",
        )
    },
    rules=(
        Rule(
            "A5", "auc_held_out", "AUC of one half of the utterances against the other, of the same speakers", below=0.6
        ),
        Rule("A5", "auc_accented", "AUC of native against accented frames", above=0.7),
        Rule("A5", "accuracy_lost", "accuracy on held-out native minus on accented frames, most data", above=0.05),
        Rule(
            "A5",
            "native_gap_closed",
            "how much more data narrows the gap in accuracy between training and held-out native frames",
            above=0.05,
        ),
        Rule(
            "A5",
            "accented_gap_closed",
            "how much more data narrows the gap in accuracy between held-out native and accented frames",
            below=0.02,
        ),
        Rule(
            "A5",
            "own_kind_gain",
            "accuracy on held-out accented speakers, trained on accented minus on as many native frames",
            above=0.02,
        ),
    ),
    measure=measure,
)
