import pytest
import torch
from torch import nn

from phoneme.errors import InputError
from phoneme.models import ACTIVATIONS, NORMS, Mlp, count_parameters

SIZES = {"coeffs": 39, "classes": 41, "context": 11}


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_depth_is_the_number_of_hidden_blocks(depth):
    model = Mlp(**SIZES, depth=depth, width=8)
    assert len(model.blocks) == depth
    assert sum(isinstance(module, nn.Linear) for module in model.modules()) == depth + 1
    assert sum(isinstance(module, nn.ReLU) for module in model.modules()) == depth


def test_is_the_network_written_out_by_hand():
    torch.manual_seed(0)
    model = Mlp(coeffs=2, classes=3, context=3, depth=2, width=5, norm="layer", activation="tanh")
    windows = torch.randn(4, 3, 2)
    hidden = windows.reshape(4, 6)
    for block in model.blocks:
        hidden = hidden @ block.linear.weight.T + block.linear.bias
        variance = hidden.var(dim=1, keepdim=True, unbiased=False)
        hidden = ((hidden - hidden.mean(dim=1, keepdim=True)) / (variance + 1e-5).sqrt()).tanh()
    by_hand = hidden @ model.output.weight.T + model.output.bias
    torch.testing.assert_close(model(windows), by_hand)


def test_without_options_it_is_the_sequential_of_the_sample_code():
    torch.manual_seed(0)
    model = Mlp(**SIZES, depth=2, width=16)
    torch.manual_seed(0)
    plain = nn.Sequential(
        nn.Linear(429, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 41)
    )  # fmt: skip
    windows = torch.randn(7, 11, 39)
    assert torch.equal(model(windows), plain(windows.reshape(7, 429)))


def test_residual_adds_the_input_where_the_shapes_agree():
    model = Mlp(coeffs=2, classes=3, context=3, depth=3, width=6, residual=True)
    assert [block.residual for block in model.blocks] == [True, True, True]
    for block in model.blocks:
        nn.init.zeros_(block.linear.weight)
        nn.init.zeros_(block.linear.bias)
    windows = torch.randn(4, 3, 2)
    assert torch.equal(model(windows), model.output(windows.reshape(4, 6)))

    model = Mlp(coeffs=2, classes=3, context=3, depth=3, width=7, residual=True)
    assert [block.residual for block in model.blocks] == [False, True, True]


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    model = Mlp(**SIZES, depth=1, width=1000, dropout=0.75, activation="sigmoid")
    hidden = model.blocks(torch.randn(10, 429))
    assert (hidden == 0).float().mean().item() == pytest.approx(0.75, abs=0.02)
    model.eval()
    assert not (model.blocks(torch.randn(10, 429)) == 0).any()


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("norm", NORMS)
def test_every_norm_and_activation_gives_gradients_to_every_parameter(norm, activation):
    torch.manual_seed(0)
    model = Mlp(coeffs=4, classes=3, context=3, depth=2, width=32, norm=norm, activation=activation)
    model(torch.randn(8, 3, 4)).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in _felt(model, norm))


def _felt(model: Mlp, norm: str) -> list[nn.Parameter]:
    """The parameters the output depends on: batch normalization subtracts the bias before it."""
    return [
        parameter
        for name, parameter in model.named_parameters()
        if not (norm in ("batch", "batch_renorm") and name.endswith("linear.bias"))
    ]


@pytest.mark.parametrize("norm", NORMS)
def test_state_survives_a_weights_only_checkpoint(norm, tmp_path):
    torch.manual_seed(0)
    sizes = {"coeffs": 4, "classes": 3, "context": 3, "depth": 2, "width": 32, "norm": norm}
    model, other = Mlp(**sizes), Mlp(**sizes)
    windows = torch.randn(8, 3, 4)
    model(windows)  # moves the running statistics
    torch.save(model.state_dict(), tmp_path / "model.pt")
    other.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    assert torch.equal(model.eval()(windows), other.eval()(windows))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("residual", [False, True])
def test_overfits_real_frames(overfit, norm, residual):
    torch.manual_seed(0)
    model = Mlp(**SIZES, depth=2, width=64, norm=norm, residual=residual)
    assert overfit(model, steps=120, lr=0.01) == 1.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 0}, r"(?s)at least 1, got 0.*model\.depth.*model=linear"),
        ({"width": 0}, r"(?s)at least 1, got 0.*model\.width.*hint: 256"),
        ({"dropout": 1.0}, r"(?s)a probability in \[0, 1\), got 1\.0.*model\.dropout.*hint:"),
        ({"dropout": -0.1}, r"(?s)a probability in \[0, 1\), got -0\.1.*model\.dropout"),
        ({"dropout": float("nan")}, r"got nan"),
        (
            {"activation": "rellu"},
            r"(?s)a known activation, got rellu.*model\.activation.*did you mean relu\?",
        ),
        (
            {"norm": "batchnorm"},
            r"(?s)a known normalization, got batchnorm.*model\.norm.*did you mean batch\?",
        ),
        ({"norm": "instance"}, r"(?s)normalization of single vectors.*got instance.*model\.norm.*no time axis"),
        ({"context": 10}, r"(?s)odd number of frames, got 10.*model\.context"),
        ({"norm": "group", "width": 40}, r"(?s)a multiple of 16, got 40.*model\.width.*layer takes any"),
        ({"residual": True, "depth": 1}, r"(?s)got one block, 429 -> 64.*model\.residual.*2 or more"),
    ],
)
def test_refuses(options, message):
    with pytest.raises(InputError, match=message):
        Mlp(**{**SIZES, "depth": 2, "width": 64, **options})


def test_counts_each_parameter_once():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    assert count_parameters(model) == 4 + 2 + 2


def test_width_is_solved_from_the_number_of_parameters():
    model = Mlp(coeffs=39, classes=41, context=11, depth=3, parameters=6_779_945)
    assert model.output.in_features == 1727
    assert abs(count_parameters(model) - 6_779_945) < 5_000


@pytest.mark.parametrize(("sizes", "got"), [({}, "neither"), ({"width": 4, "parameters": 100}, "width 4 and 100")])
def test_either_a_width_or_a_number_of_parameters(sizes, got):
    with pytest.raises(InputError, match=rf"either a width or a number of parameters, got {got}"):
        Mlp(coeffs=3, classes=4, context=1, depth=1, **sizes)
