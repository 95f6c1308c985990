import pytest
import torch
import torch.nn.functional as F
from torch import nn

from phoneme.curvature.kinks import kinks
from phoneme.curvature.objective import Objective
from phoneme.errors import InputError
from phoneme.losses import cross_entropy
from tests.curvature.surfaces import CLASSES, network, ragged_batches, state


class Through(nn.Module):
    """A function of the input, in front of a linear layer that makes a model of it."""

    def __init__(self, function):
        super().__init__()
        self.function, self.linear = function, nn.Linear(1, CLASSES)

    def forward(self, x):
        return self.linear(self.function(x.clone()))


def seen(function, values, **options):
    inputs = torch.tensor(values)[:, None]
    objective = Objective(Through(function), cross_entropy, [(inputs, torch.zeros(len(inputs), dtype=torch.long))])
    return kinks(objective, **options)


FAR = 2 * 2**0.5
# The root mean square is 2, so 0.002 is as near as counts.
VALUES = [0.0, 0.0019, -0.0019, 0.0021, FAR, FAR, -FAR, -FAR]


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (nn.ReLU(), "relu"),
        (nn.ReLU(inplace=True), "relu"),
        (F.relu, "relu"),
        (torch.relu, "relu"),
        (torch.relu_, "relu"),
        (torch.Tensor.relu, "relu"),
        (lambda x: x.relu(), "relu"),
        (lambda x: x.relu_(), "relu"),
        (lambda x: F.relu(input=x), "relu"),
        (nn.LeakyReLU(0.2), "leaky_relu"),
        (lambda x: F.leaky_relu(x, negative_slope=0.3), "leaky_relu"),
        (nn.PReLU(), "prelu"),
        (nn.RReLU(), "rrelu"),
        (nn.SELU(), "selu"),
        (nn.ELU(0.5), "elu"),
        (F.relu6, "relu6"),
        (nn.Threshold(0.0, 0.0), "threshold"),
        (nn.Hardtanh(0.0, 50.0), "hardtanh"),
        (lambda x: F.hardtanh(x, max_val=0.0, min_val=-50.0), "hardtanh"),
        (lambda x: x.clamp(min=0), "clamp"),
        (lambda x: torch.clamp(x, 0.0), "clamp"),
        (lambda x: x.clip(0, 100), "clamp"),
        (lambda x: x.clamp_min(0), "clamp_min"),
        (lambda x: x.clamp_max(0), "clamp_max"),
    ],
)
def test_inputs_near_zero_are_counted_however_it_is_called(function, name):
    found = seen(function, VALUES)
    assert (found.inputs, found.near, found.activations) == (8, 3, (name,))
    assert found.share == 3 / 8 and found.relative_distance == 1e-3


@pytest.mark.parametrize(
    ("function", "places"),
    [
        (nn.ReLU6(), (0.0, 6.0)),
        (nn.Hardtanh(), (-1.0, 1.0)),
        (nn.Hardswish(), (-3.0, 3.0)),
        (nn.Hardsigmoid(), (-3.0, 3.0)),
        (nn.Softshrink(), (-0.5, 0.5)),
        (nn.Hardshrink(0.7), (-0.7, 0.7)),
        (nn.Threshold(0.2, 0.0), (0.2,)),
    ],
)
def test_kinks_are_where_the_functions_have_them(function, places):
    values = [0.0, 6.0, -6.0, 1.0, -1.0, 3.0, -3.0, 0.5, -0.5, 0.7, -0.7, 0.2]
    assert seen(function, values).near == len(places)
    for place in places:  # the slope jumps there
        x = torch.tensor([place - 1e-6, place + 1e-6], dtype=torch.float64, requires_grad=True)
        slopes = torch.autograd.grad(function(x).sum(), x)[0]
        jumps = function(x).diff().abs() > 0.1
        assert abs(slopes.diff()) > 0.1 or jumps


@pytest.mark.parametrize(
    "function",
    [
        nn.Tanh(),
        nn.GELU(),
        nn.Softplus(),
        nn.SiLU(),
        nn.ELU(),
        nn.CELU(0.5),
        nn.LeakyReLU(1.0),
        lambda x: x / x.square().sum().clamp_min(1e-6),
        lambda x: x + torch.arange(len(x)).clamp(min=0)[:, None],
    ],
)
def test_smooth_networks_have_none(function):
    assert seen(function, VALUES) is None


def test_the_distance_is_relative_to_each_call_s_inputs():
    def two(x):
        return torch.relu(x) + torch.relu(1000 * x)

    assert seen(two, VALUES).near == 2 * seen(torch.relu, VALUES).near
    assert seen(torch.relu, VALUES, relative_distance=10.0).share == 1
    assert seen(torch.relu, [0.0, 0.0]).share == 1  # a layer of zeros


def test_all_batches_and_layers_count_and_no_trace_is_left():
    model = network(nn.ReLU)
    objective = Objective(model, cross_entropy, ragged_batches())
    before = state(model)
    with torch.no_grad(), torch.autocast("cpu"):
        found = kinks(objective, relative_distance=0.1)
    assert found.inputs == (7 + 20 + 11) * 5 * 2 and 0 < found.near < found.inputs
    assert state(model) == before
    assert found.to_dict() == {
        "inputs": found.inputs,
        "near": found.near,
        "share": found.near / found.inputs,
        "relative_distance": 0.1,
        "activations": ["relu"],
    }


def test_a_transformer_s_relu_is_seen():
    """In evaluation mode without gradients PyTorch has one kernel for the whole layer."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(4, 2, 8, activation="relu", batch_first=True)

        def forward(self, x):
            return self.layer(x)

    objective = Objective(Model(), cross_entropy, [(torch.randn(2, 5, 4), torch.randint(4, (2, 5)))])
    assert kinks(objective).inputs == 2 * 5 * 8


@pytest.mark.parametrize("functional", [True, False])
def test_a_recurrent_layer_s_relu_is_named_and_said(caplog, functional):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.RNN(3, CLASSES, nonlinearity="relu", batch_first=True)

        def forward(self, x):
            return self.layer(x.relu() if functional else x)[0]

    objective = Objective(Model(), cross_entropy, [(torch.randn(2, 5, 3), torch.randint(CLASSES, (2, 5)))])
    found = kinks(objective)
    assert found.activations == (("relu", "rnn_relu") if functional else ("rnn_relu",))
    assert found.inputs == (30 if functional else 0) and found.share == 0
    assert "inside one kernel" in caplog.text


def test_refuses_a_distance_that_is_not_positive():
    with pytest.raises(InputError, match=r"(?s)a positive number, got 0\.0.*relative_distance.*default"):
        seen(torch.relu, VALUES, relative_distance=0.0)
