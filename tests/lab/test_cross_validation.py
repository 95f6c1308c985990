"""A4, and cross-validation that is one split."""

import math

from phoneme.lab import perform
from phoneme.lab.experiments.cross_validation import CANDIDATES, CONTEXT, EXPERIMENT, FRAMES, _draw, _middle
from tests.lab.helpers import small_bench, verdicts


def test_it_is_measured():
    answer = perform(EXPERIMENT, small_bench(), data_sets=3)
    assert answer["rows"]["A4"]["verdict"] != "does not hold"
    assert all(math.isfinite(value) for ruling in answer["rows"]["A4"]["rulings"] for value in ruling["values"])
    assert len(answer["numbers"]["true_accuracy"]) == len(CANDIDATES)


def test_the_mean_of_one_fold_is_no_better_than_a_split():
    assert verdicts(EXPERIMENT, small_bench(), data_sets=2, averaged=1)["A4"] != "holds"


def test_no_utterance_is_in_two_folds():
    speech = small_bench().open_speech(CONTEXT)
    folds = _draw(speech, 3)
    again = _draw(speech, 3)
    rows = [{tuple(row) for row in fold.inputs[:, CONTEXT // 2].tolist()} for fold in folds]
    assert [len(fold) for fold in folds] == [FRAMES] * len(folds)
    assert all(not one & other for place, one in enumerate(rows) for other in rows[:place])
    assert all(one.inputs.equal(other.inputs) for one, other in zip(folds, again, strict=True))


def test_a_narrower_window_has_the_same_centre():
    frames = small_bench().open_speech(CONTEXT).val(20, 0)
    assert _middle(frames, 1).inputs[:, 0].equal(frames.inputs[:, CONTEXT // 2])
    assert _middle(frames, 3).inputs.equal(small_bench().open_speech(3).val(20, 0).inputs)
