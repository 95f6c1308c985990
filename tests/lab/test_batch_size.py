"""C3, and a case where it is false: equal updates in place of equal epochs."""

import math

import torch

from phoneme.curvature.objective import Objective
from phoneme.lab import perform
from phoneme.lab.descent import score
from phoneme.lab.experiments.batch_size import EXPERIMENT, JUDGED, down_to, surface_at
from phoneme.losses import cross_entropy
from tests.lab.helpers import small_bench

FEW = {"sizes": (16, 256), "frames": 256, "patience": 60}


def test_sharpness_is_the_largest_eigenvalue():
    bench = small_bench(context=1, depth=1, width=4)
    model, frames = bench.model(0), bench.speech.train(64, 0)
    objective = Objective(model, cross_entropy, [(frames.inputs, frames.targets)])
    point = objective.point.clone()

    def loss(flat):
        named = dict(zip(objective.selection.names, objective.selection.split(flat), strict=True))
        return cross_entropy(torch.func.functional_call(model, named, (frames.inputs,)), frames.targets)

    exact = torch.linalg.eigvalsh(torch.func.hessian(loss)(point))[-1].item()
    surface = surface_at(model, frames, 0)
    assert abs(surface.sharpness / exact - 1) < 0.02
    assert surface.rise[0] == 0.0 and surface.rise[JUDGED] > 0 and abs(surface.loss - loss(point).item()) < 1e-5


def test_descent_stops_where_the_loss_is_reached():
    bench = small_bench()
    frames = bench.speech.train(256, 0)
    start = score(bench.model(0), frames).loss
    surface, updates = down_to(bench, frames, 64, 0.1, start - 0.2, 0)
    assert start - 0.3 < surface.loss <= start - 0.2 and 0 < updates < 800


def test_it_is_measured():
    rulings = perform(EXPERIMENT, small_bench(seeds=1), **FEW)["rows"]["C3"]["rulings"]
    assert len(rulings) == 8
    for ruling in rulings:
        assert len(ruling["values"]) == 1 and None not in ruling["values"]


def test_with_equal_updates_the_large_batch_is_no_worse():
    row = perform(EXPERIMENT, small_bench(), updates=60, **FEW)["rows"]["C3"]
    optimises, generalises = row["rulings"][:2]
    assert optimises["verdict"] != "holds" and generalises["verdict"] != "holds" and row["verdict"] != "holds"


def test_a_network_that_has_diverged_has_no_surface():
    bench = small_bench()
    frames, model = bench.speech.train(64, 0), bench.model(0)
    torch.nn.init.constant_(model.output.bias, math.inf)
    assert surface_at(model, frames, 0) is None
