"""E5, and a case where it is false."""

import math

import pytest
import torch

from phoneme.lab import perform
from phoneme.lab.experiments.direction_and_size import EXPERIMENT, RECENT, Signs, quotient, settled_step
from phoneme.optim.textbook import Adam
from tests.lab.helpers import small_bench


@pytest.mark.parametrize("beta1", [0.0, 0.5, 0.9])
def test_the_steps_in_closed_form(beta1):
    assert settled_step((1,), 1e-3, beta1) == pytest.approx(1.0, rel=1e-9)
    assert settled_step((1, -1), 1e3, beta1) == pytest.approx((1 - beta1) / (1 + beta1), rel=1e-9)


def test_the_agreement_of_signs_is_of_the_last_ones():
    model = torch.nn.Linear(1, 1)
    signs = Signs(model)
    for step in range(3 * RECENT):
        model.weight.grad = torch.tensor([[1.0 if step < RECENT else -5.0]])
        model.bias.grad = torch.tensor([1.0 if step % 2 else -1.0])
        signs.look(step)
    assert signs.agreement().tolist() == [1.0, 0.0]


def test_the_quotient_is_the_length_of_the_step():
    model = torch.nn.Linear(3, 2)
    optimizer = Adam(model.parameters(), lr=0.01)
    for _ in range(5):
        before = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
        optimizer.zero_grad()
        model(torch.randn(4, 3)).square().sum().backward()
        optimizer.step()
    after = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    torch.testing.assert_close(quotient(model, optimizer)[0] * 0.01, (after - before).abs(), rtol=1e-4, atol=1e-6)


def rulings(**conditions) -> dict[str, str]:
    answer = perform(EXPERIMENT, small_bench(), steps=60, **conditions)
    found = answer["rows"]["E5"]["rulings"]
    assert all(math.isfinite(value) for ruling in found for value in ruling["values"])
    return {ruling["effect"]: ruling["verdict"] for ruling in found}


def test_it_is_measured():
    found = rulings()
    assert found["one_sign"] == found["alternating"] == found["direction"] == "holds"


def test_without_momentum_nothing_keeps_the_direction():
    found = rulings(beta1=0.0)
    assert found["alternating"] == found["direction"] == "does not hold"
