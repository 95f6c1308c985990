"""C1. The clock is not judged: only what it would say of an update that does one frame after another."""

import torch

from phoneme.lab import decide, perform
from phoneme.lab.experiments.batch_time import EXPERIMENT, times, updates_of
from phoneme.losses import cross_entropy
from tests.lab.helpers import small_bench, verdicts

SIZES = (1, 16, 256)


def test_an_update_is_the_same_in_parallel_and_one_by_one():
    bench = small_bench()
    frames, model, other = bench.speech.train(64, 0), bench.model(0), bench.model(0)
    before = cross_entropy(model(frames.inputs), frames.targets).item()
    updates_of(model, frames, 16, seed=1)(3)
    updates_of(other, frames, 16, seed=1, one_by_one=True)(3)
    for parameter, alike in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(parameter, alike)
    assert cross_entropy(model(frames.inputs), frames.targets).item() != before


def test_all_sizes_take_turns():
    seen = []
    runs = [lambda count, size=size: seen.append(size) for size in SIZES]
    least = times(runs, torch.device("cpu"), rounds=2)
    assert len(least) == 3 and all(seconds > 0 for seconds in least)
    assert seen[6:] == [1, 16, 256, 256, 16, 1]  # after a first update and a first block of each


def test_it_is_measured():
    answer = perform(EXPERIMENT, small_bench(seeds=1), sizes=SIZES, rounds=2)
    rulings = answer["rows"]["C1"]["rulings"]
    assert [ruling["effect"] for ruling in rulings] == ["update_of_16", "growth_at_the_end", "epoch_at_256"]
    assert all(ruling["values"][0] > 0 for ruling in rulings)
    assert answer["rows"]["C1"]["verdict"] == "undecided"  # one seed


def test_without_anything_in_parallel_it_does_not_hold():
    assert verdicts(EXPERIMENT, small_bench(), sizes=SIZES, one_by_one=True, rounds=1)["C1"] != "holds"


def test_a_machine_whose_time_is_in_proportion_breaks_both_rules():
    first, _, last = EXPERIMENT.rules
    assert decide(first, [16.0, 15.5, 16.2]).verdict == decide(last, [1.0, 1.1, 0.9]).verdict == "does not hold"
