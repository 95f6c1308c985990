"""Driving networks to critical points: closed forms, brute force, and a network on the sinc task of 2021."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from phoneme.curvature.analyse import analyse
from phoneme.curvature.hvp import HessianProducts
from phoneme.curvature.inertia import dense
from phoneme.curvature.objective import Objective
from phoneme.errors import InputError
from phoneme.lab.critical import loss_of, reach


def lecture(weights):
    """L = (1 - w1 w2)^2."""
    return (1 - weights[0] * weights[1]) ** 2


def points(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def sinc_network(seed, width=5, weight_decay=3e-4):
    """A tanh network of 46 parameters on y = sin(5 pi x) / (5 pi x)."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = nn.Linear(1, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1)
    x = torch.linspace(-1, 1, 32, dtype=torch.float64)[:, None]
    model = nn.Sequential(*layers).double()
    return Objective(model, F.mse_loss, [(x, torch.sinc(5 * x))], weight_decay=weight_decay)


def test_both_kinds_of_critical_points_of_the_lecture_are_found_from_suitable_starts():
    saddle, minimum = reach(lecture, points([0.2, -0.1], [1.6, 0.5]))
    assert saddle.converged and saddle.point.norm() < 1e-4
    assert saddle.eigenvalues.tolist() == pytest.approx([-2, 2], abs=1e-6)
    assert saddle.index == 1 and saddle.shares().positive.low == 0.5 and saddle.loss == pytest.approx(1)
    assert minimum.converged and minimum.point.prod().item() == pytest.approx(1) and minimum.loss < 1e-20
    assert minimum.index == 0


def test_downhill_the_saddle_is_left_for_a_minimum():
    (found,) = reach(lecture, points([0.2, -0.1]), "minimum")
    assert found.converged and found.point.prod().item() == pytest.approx(1)


def test_a_start_at_a_critical_point_stays_there():
    (found,) = reach(lecture, points([0.0, 0.0]))
    assert found.converged and found.updates == 0 and found.gradient_norm == 0 and found.relative == 0


def test_a_gradient_flat_point_is_no_critical_point():
    """L = x^3 / 3 + x + y^2 has |g| >= 1: the search ends at x = 0, where H is singular and g = (1, 0)."""
    (found,) = reach(lambda w: w[0] ** 3 / 3 + w[0] + w[1] ** 2, points([0.5, 1.0]))
    assert not found.converged
    assert found.point.abs().max() < 1e-3 and found.gradient_norm == pytest.approx(1, abs=1e-3)
    assert found.flat_share == pytest.approx(1, abs=1e-3)


def test_a_linear_loss_has_none():
    (found,) = reach(lambda w: w.sum() + 3, points([1.0, 2.0]), max_updates=20)
    assert not found.converged and found.gradient_norm == pytest.approx(math.sqrt(2))


@pytest.mark.parametrize("weight_decay", [0.0, 1e-3])
def test_loss_gradient_and_hessian_are_those_of_the_objective(weight_decay):
    objective = sinc_network(0, weight_decay=weight_decay)
    full, _ = dense(HessianProducts(objective))
    with objective.conditions():
        (found,) = reach(loss_of(objective), objective.point[None], max_updates=0)
    assert found.loss == pytest.approx(objective.value(), rel=1e-12)
    assert found.gradient_norm == pytest.approx(float(objective.gradient().norm()), rel=1e-12)
    torch.testing.assert_close(found.eigenvalues, torch.linalg.eigvalsh(full), rtol=0, atol=1e-12)
    assert not found.converged and torch.equal(found.point, objective.point)


def test_what_a_sinc_network_reaches_is_what_analyse_finds_there():
    objectives = [sinc_network(seed) for seed in range(2)]
    starts = torch.stack([objective.point for objective in objectives])
    with objectives[0].conditions():
        saddles = reach(loss_of(objectives[0]), starts)
        minima = reach(loss_of(objectives[0]), starts, "minimum")
    for kind, found in [("saddle", saddles), ("local_minimum", minima)]:
        assert all(each.converged for each in found)
        for objective, each in zip(objectives, found, strict=True):
            there = objective.at(each.point)
            nn.utils.vector_to_parameters(there.point, objective.model.parameters())
            batches = [(batch.inputs, batch.targets) for batch in there.batches]
            answer = analyse(objective.model, F.mse_loss, batches, weight_decay=3e-4)
            assert answer.verdict == kind, answer.why
            assert answer.gradient_norm_relative == pytest.approx(each.relative, rel=0.05)
            assert answer.minimum_ratio.positive == each.shares().positive
    assert max(each.loss for each in minima) < 0.2 * min(each.loss for each in saddles)
    assert all(each.index > 0 for each in saddles)


def test_each_search_is_what_it_is_alone():
    objective = sinc_network(0)
    starts = torch.stack([objective.point, 0.5 * objective.point])
    with objective.conditions():
        together = reach(loss_of(objective), starts, max_updates=30)
        alone = [reach(loss_of(objective), start[None], max_updates=30)[0] for start in starts]
    for one, other in zip(together, alone, strict=True):
        assert one.updates == other.updates and one.loss == pytest.approx(other.loss, rel=1e-6)


def test_what_cannot_be_searched_is_refused():
    with pytest.raises(InputError, match="did you mean critical"):
        reach(lecture, points([0.0, 1.0]), "critica")
    with pytest.raises(InputError, match="starts in float64"):
        reach(lecture, torch.zeros(1, 2))
    with pytest.raises(InputError, match="NaN or infinity at start 1"):
        reach(lecture, points([0.0, 1.0], [math.nan, 0.0]))
