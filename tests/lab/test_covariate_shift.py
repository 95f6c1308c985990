"""G4, and a case where it is false."""

import math

import pytest
import torch
from torch import nn

from phoneme.curvature.objective import Objective
from phoneme.lab import perform
from phoneme.lab.experiments.covariate_shift import (
    ALONG,
    EXPERIMENT,
    NOISY,
    RATE,
    Shifting,
    along_the_step,
    moments,
    network,
    surface_at,
)
from tests.lab.helpers import small_bench


def test_along_the_step_of_a_parabola():
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 3.0)

    def loss(outputs, targets):  # 2 w^2: slope 4 w, curvature 4
        return 2 * outputs.square().mean()

    objective = Objective(model, loss, [(torch.ones(4, 1), torch.zeros(4))], dtype=torch.float64)
    spread, change, beta = along_the_step(objective)
    reached = [2 * (3 * (1 - 4 * RATE * share)) ** 2 for share in ALONG]
    assert spread == pytest.approx(18 - min(reached))
    assert change == pytest.approx(4 * 12 * RATE * max(ALONG))
    assert beta == pytest.approx(4)


def test_a_network_that_has_diverged_has_no_surface():
    bench = small_bench()
    model, frames = network(bench, 0, "none", "batch"), bench.speech.train(16, 0)
    assert all(value > 0 for value in surface_at(model, frames))
    nn.init.constant_(model.output.weight, torch.inf)
    assert all(map(math.isnan, surface_at(model, frames)))


def test_noise_shifts_each_unit_anew_in_training_only():
    torch.manual_seed(0)
    rows, noise = torch.randn(20_000, 50), Shifting()
    one, other = noise(rows), noise(rows)
    assert one.mean(0).abs().max() < 0.53 and one.std(0).min() > 0.97 and one.std(0).max() < 1.28
    assert (one.mean(0) - other.mean(0)).abs().mean() == pytest.approx(1 / 3, abs=0.1)  # of two even draws from 1
    assert torch.equal(noise.eval()(rows), rows)


def test_moments_are_those_of_the_inputs_of_the_nonlinearities_and_leave_no_trace():
    bench = small_bench()
    model, frames = network(bench, 0, "batch", "batch"), bench.speech.train(64, 0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    mean, deviation = moments(model, frames)
    assert mean.shape == (10 * 32,) and mean.abs().max() < 1e-5
    torch.testing.assert_close(deviation, torch.full_like(deviation, (64 / 63) ** 0.5), atol=1e-2, rtol=0)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_networks_differ_in_their_norm_only():
    bench = small_bench()
    plain, noisy = network(bench, 1, "none", "batch"), network(bench, 1, NOISY, "batch")
    assert torch.equal(plain.blocks[3].linear.weight, noisy.blocks[3].linear.weight)
    assert isinstance(noisy.blocks[3].norm[0], nn.BatchNorm1d) and isinstance(noisy.blocks[3].norm[1], Shifting)


def test_it_is_measured():
    found = perform(EXPERIMENT, small_bench(), steps=10)
    rulings = {ruling["effect"]: ruling for ruling in found["rows"]["G4"]["rulings"]}
    assert all(None not in ruling["values"] for ruling in rulings.values())
    assert found["numbers"]["none"]["looks"][0]["updates"] == [0, 2, 4, 6, 8]


def test_a_network_against_itself_is_no_smoother():
    found = perform(EXPERIMENT, small_bench(), steps=8, norm="none")["rows"]["G4"]
    assert found["verdict"] != "holds"
    surface = [ruling for ruling in found["rulings"] if not ruling["effect"].startswith("noisy")]
    assert [ruling["verdict"] for ruling in surface] == ["does not hold"] * 3
