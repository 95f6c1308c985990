"""B1 and E1, and runs of which they are not true."""

import pytest
import torch
from torch import nn

from phoneme.lab import perform
from phoneme.lab.experiments.stalled import EXPERIMENT, alternation, fall, run
from tests.lab.helpers import small_bench, verdicts

SHORT = {"updates": 200, "cured": 100, "looks": 2}


def test_steps_across_a_valley_turn_back_and_those_along_it_do_not():
    steps = torch.tensor([[1.0, 0.1], [-1.0, 0.1], [1.0, 0.1]])
    assert alternation(steps, torch.tensor([1.0, 0.0])) == 1
    assert alternation(steps, torch.tensor([0.0, 1.0])) == 0


def test_the_fall_is_from_one_window_to_the_next():
    assert fall([9.0] * 50 + [2.0] * 100 + [1.5] * 100) == pytest.approx(0.25)


def test_the_trail_is_the_weights_before_the_last_updates():
    bench = small_bench(context=1, depth=1, width=4)
    model, frames = bench.model(0), bench.speech.train(64, 0)
    done = run(model, frames, rate=0.5, updates=6, kept=3)
    assert len(done.losses) == len(done.gradients) == 6 and len(done.trail) == 3
    nn.utils.vector_to_parameters(done.trail[-1].clone(), model.parameters())
    again = run(model, frames, rate=0.5, updates=1, kept=1)
    assert again.losses[0] == done.losses[-1] and again.gradients[0] == pytest.approx(done.gradients[-1])


def test_it_is_measured():
    answer = perform(EXPERIMENT, small_bench(), **SHORT)
    for row in answer["rows"].values():
        assert row["verdict"] != "does not hold"
        assert all(value is not None for ruling in row["rulings"] for value in ruling["values"])
    assert set(answer["numbers"]["verdict"]) == {"not_critical"}


def test_with_a_small_rate_nothing_stands_still_and_nothing_bounces():
    found = verdicts(EXPERIMENT, small_bench(), times=0.05, **SHORT)
    assert found["B1"] != "holds" and found["E1"] == "does not hold"


def test_at_a_critical_point_a_loss_stands_still_with_a_small_gradient():
    """All weights 0, the output bias at the classes' shares: no gradient, and behind two hidden layers no curvature."""
    bench = small_bench(seeds=1)
    counts = torch.bincount(bench.speech.train(1024, 0).targets, minlength=bench.speech.classes)

    def flat_start(model):
        for parameter in model.parameters():
            nn.init.zeros_(parameter)
        with torch.no_grad():
            model.output.bias.copy_(counts.clamp(min=1e-3).log())

    answer = perform(EXPERIMENT, bench, start=flat_start, **SHORT)
    assert answer["numbers"]["verdict"] == ["degenerate"]
    values = {ruling["effect"]: ruling["values"][0] for ruling in answer["rows"]["B1"]["rulings"]}
    assert values["gradient"] < 1 and values["still"] < 0.1
