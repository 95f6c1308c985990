"""A3, and remedies that are none."""

import math

import torch

from phoneme.lab import perform
from phoneme.lab.experiments.overfitting import EXPERIMENT, REMEDIES, Augmented, Best, Remedy, _augment
from tests.lab.helpers import small_bench, verdicts


def test_it_is_measured():
    answer = perform(EXPERIMENT, small_bench(), steps=40)
    assert answer["rows"]["A3"]["verdict"] != "does not hold"
    assert all(math.isfinite(value) for ruling in answer["rows"]["A3"]["rulings"] for value in ruling["values"])
    assert len(answer["numbers"]["stopped_after"]) == 3


def test_remedies_that_change_nothing_do_not_close_the_gap():
    found = verdicts(EXPERIMENT, small_bench(), steps=10, remedies=dict.fromkeys(REMEDIES, Remedy()))
    assert found == {"A3": "does not hold"}


def test_windows_are_augmented_in_training_only():
    bench = small_bench()
    model = Augmented(bench.model(0, context=11), _augment(Remedy(), bench), 0, bench.device)
    frames = bench.open_speech(11).train(64, 0)
    said = model.network(frames.inputs)
    first, second = model(frames.inputs), model(frames.inputs)
    assert not first.equal(second) and not first.equal(said)
    assert model.eval()(frames.inputs).equal(said)


def test_the_best_weights_are_kept():
    bench = small_bench()
    frames, model = bench.speech.train(64, 0), bench.model(0)
    best = Best(model, frames, every=2)
    start = model.output.weight.detach().clone()
    best(0)
    with torch.no_grad():
        model.output.weight.mul_(100)  # worse
    best(1)
    best(2)
    assert best.step == 0 and best.weights["output.weight"].equal(start)
