import json
import math

import pytest
import torch
from torch import nn

from phoneme.curvature.landscape import landscape, random_direction
from phoneme.curvature.objective import Objective
from phoneme.errors import InputError
from phoneme.losses import cross_entropy
from tests.curvature.surfaces import network, ragged_batches
from tests.curvature.test_taylor import surface, unit


def test_a_line_and_a_plane_through_a_known_surface():
    objective = surface(lambda x: x[0] ** 2 + 3 * x[1], [1.0, 0.0])
    line = landscape(objective, {"x": unit(2, 0)}, [[-1, 0, 0.5]])
    assert line.losses.tolist() == [0.0, 1.0, 2.25] and line.radii == ((-1.0, 0.0, 0.5),)
    plane = landscape(objective, {"y": 2 * unit(2, 1), "x": unit(2, 0)}, [[0, 1], [-1, 0, 0.5]])
    assert plane.losses.tolist() == [[0.0, 1.0, 2.25], [6.0, 7.0, 8.25]] and plane.directions == ("y", "x")


def test_the_centre_is_the_loss_and_the_point_is_left_alone():
    objective = Objective(network(), cross_entropy, ragged_batches(), dtype=torch.float64)
    before = objective.point.clone()
    pair = {f"random {seed}": random_direction(objective, seed) for seed in (0, 1)}
    found = landscape(objective, pair, [[-0.5, 0.0], [0.0, 0.5]])
    assert found.losses[1, 0].item() == objective.value() and torch.equal(objective.point, before)
    first, second = pair.values()
    corner = objective.at(objective.point - 0.5 * first + 0.5 * second).value()
    assert found.losses[0, 1].item() == pytest.approx(corner, rel=1e-12)


def test_losses_that_are_not_finite_stay_and_are_none_in_json():
    objective = surface(lambda x: x[0].exp() - 0 * (1 - x[0].exp()), [0.0])
    found = landscape(objective, {"x": unit(1, 0)}, [[0.0, 1000.0]])
    assert math.isnan(found.losses[1])
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False)) == {
        "directions": ["x"],
        "radii": [[0.0, 1000.0]],
        "losses": [1.0, None],
    }


def test_a_filter_normalised_direction_has_the_lengths_of_the_model_s_filters():
    model = nn.Sequential(nn.Conv1d(1, 3, 2), nn.BatchNorm1d(3), nn.ReLU(), nn.Flatten(), nn.Linear(6, 4))
    objective = Objective(model, cross_entropy, [(torch.randn(5, 1, 3), torch.arange(5) % 4)])
    direction = random_direction(objective, seed=3)
    for name, part in zip(objective.selection.names, objective.selection.split(direction), strict=True):
        weight = dict(model.named_parameters())[name]
        if weight.dim() > 1:
            torch.testing.assert_close(part.flatten(1).norm(dim=1), weight.detach().flatten(1).norm(dim=1))
        else:
            assert not part.any()


def test_scaling_relu_layers_against_each_other_does_not_change_the_picture():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(3, 5, bias=False), nn.ReLU(), nn.Linear(5, 4, bias=False))
    scaled = nn.Sequential(nn.Linear(3, 5, bias=False), nn.ReLU(), nn.Linear(5, 4, bias=False))
    with torch.no_grad():
        scaled[0].weight.copy_(10 * plain[0].weight)
        scaled[2].weight.copy_(plain[2].weight / 10)
    pictures = []
    for model in (plain, scaled):
        objective = Objective(model, cross_entropy, ragged_batches(), dtype=torch.float64)
        pictures.append(landscape(objective, {"random": random_direction(objective, 0)}, [[-1, -0.3, 0.3, 1]]).losses)
    torch.testing.assert_close(*pictures, rtol=1e-6, atol=0)


def test_a_direction_is_that_of_its_seed():
    objective = Objective(network(), cross_entropy, ragged_batches())
    first = random_direction(objective, 0)
    torch.manual_seed(5)
    assert torch.equal(first, random_direction(objective, 0)) and not torch.equal(first, random_direction(objective, 1))
    assert random_direction(objective, 0, "unit").norm().item() == pytest.approx(1, rel=1e-5)


def test_refuses():
    objective = surface(lambda x: x.sum(), [0.0, 0.0])
    v = unit(2, 0)
    for directions, radii in (
        ({}, []),
        ({"a": v}, [[0.0], [0.0]]),
        ({"a": v}, [[]]),
        (dict.fromkeys("abc", v), [[0]] * 3),
    ):
        with pytest.raises(InputError, match=r"(?s)one direction or two, and radii for each.*landscape"):
            landscape(objective, directions, radii)
    with pytest.raises(InputError, match=r"(?s)flat vector of 2 finite numbers, got shape \[3\]"):
        landscape(objective, {"a": unit(3, 0)}, [[0.0]])
    with pytest.raises(InputError, match=r"(?s)filter or unit, got layer.*normalise.*Li et al"):
        random_direction(objective, 0, "layer")
    with pytest.raises(InputError, match=r"(?s)two or more axes that is not zero, got none among theta.*unit"):
        random_direction(objective, 0)
