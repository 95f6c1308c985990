"""Descent on closed-form surfaces, against what is known of a bowl."""

import pytest
import torch

from phoneme.lab.surfaces import arrival, roll, seen_from_above, trajectory
from phoneme.optim.textbook import GradientDescent, RMSProp


def bowl(points: torch.Tensor) -> torch.Tensor:
    return (points[..., 0].square() + 10 * points[..., 1].square()) / 2


STARTS = torch.tensor([[1.0, 1.0], [2.0, -1.0], [0.0, 3.0]], dtype=torch.float64)


def test_plain_descent_on_a_bowl_is_a_power_of_each_start_at_each_rate():
    rates = torch.tensor([0.01, 0.1], dtype=torch.float64)
    places = roll(bowl, STARTS, GradientDescent, rates, steps=7)
    factors = 1 - rates[:, None] * torch.tensor([1.0, 10.0])
    torch.testing.assert_close(places[0], STARTS.expand(2, 3, 2))
    torch.testing.assert_close(places[7], factors[:, None] ** 7 * STARTS)


def test_each_rate_and_start_goes_its_own_way_also_with_a_state():
    rates = torch.tensor([0.01, 0.1], dtype=torch.float64)
    together = roll(bowl, STARTS, RMSProp, rates, steps=5, alpha=0.5)
    alone = roll(bowl, STARTS[1:2], RMSProp, rates[1:], steps=5, alpha=0.5)
    torch.testing.assert_close(together[:, 1, 1], alone[:, 0, 0])


def test_a_schedule_is_a_factor_of_the_rate():
    places = roll(bowl, STARTS, GradientDescent, torch.tensor([0.1]).double(), steps=2, schedule=lambda step: step)
    assert torch.equal(places[1], places[0]) and not torch.equal(places[2], places[1])


def test_what_diverges_never_arrives():
    heights = bowl(roll(bowl, STARTS, GradientDescent, torch.tensor([0.15, 1e3]).double(), steps=200))
    assert (arrival(heights, 1e-3)[0] < 200).all() and (arrival(heights, 1e-3)[1] == 201).all()


def test_the_surface_of_a_picture_is_a_row_for_each_y():
    surface = seen_from_above(bowl, (0.0, 1.0), (0.0, 2.0))
    assert surface.z[0][-1] == pytest.approx(0.5) and surface.z[-1][0] == pytest.approx(20.0)


def test_a_long_trajectory_is_thinned_out_and_keeps_its_ends_and_its_jumps():
    places = torch.zeros(1000, 2, dtype=torch.float64)
    places[:, 0] = torch.linspace(0, 1, 1000)
    places[700, 1] = 5.0  # there and back
    path = trajectory("", places)
    assert len(path.x) <= 200 and (path.x[0], path.x[-1]) == (0.0, 1.0) and max(path.y) == 5.0


def test_a_short_trajectory_is_all_there():
    assert trajectory("", STARTS).y == [1.0, -1.0, 3.0]
