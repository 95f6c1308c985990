"""C4, and a case where nothing helps: rates at which nothing moves."""

import torch

from phoneme.lab import descend, perform
from phoneme.lab.experiments.large_batch import EXPERIMENT, Recipe, recipes, train
from phoneme.optim import make_optimizer
from tests.lab.helpers import small_bench, verdicts

FEW = {"large": 256, "frames": 512, "epochs": 4}


def test_linear_scaling_multiplies_the_rate_as_the_batch():
    plans = recipes(0.1, 2048)
    assert plans["plain"].rate == 0.1 and plans["scaled"].rate == plans["warmup"].rate == plans["swa"].rate == 1.6


def test_swa_is_the_mean_of_the_weights_after_each_of_the_last_updates():
    bench = small_bench()
    frames, model = bench.speech.train(256, 0), bench.model(0)
    optimizer = make_optimizer(model.parameters(), name="momentum", lr=0.1)
    seen = []

    def keep(step):
        seen.append([p.detach().clone() for p in model.parameters()])

    descend(model, frames, optimizer, steps=8, batch_size=32, seed=0, watch=keep)
    keep(8)
    averaged = train(bench.model(0), frames, Recipe(32, "momentum", 0.1, averaged=True), 0.1, 8, 0)
    for place, parameter in enumerate(averaged.parameters()):
        mean = torch.stack([weights[place] for weights in seen[5:]]).mean(0)  # after updates 5, 6, 7 and 8
        torch.testing.assert_close(parameter.detach(), mean)


def test_it_is_measured():
    answer = perform(EXPERIMENT, small_bench(), **FEW)
    rulings = answer["rows"]["C4"]["rulings"]
    assert [ruling["effect"] for ruling in rulings] == ["gain_warmup", "gain_lars", "gain_lamb", "gain_swa"]
    for ruling in rulings:
        assert len(ruling["values"]) == 3 and None not in ruling["values"]


def test_at_rates_where_nothing_moves_no_remedy_helps():
    assert verdicts(EXPERIMENT, small_bench(), factors=(1e-6,), **FEW)["C4"] == "does not hold"
