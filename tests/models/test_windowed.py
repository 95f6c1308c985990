import pytest
import torch
from torch import nn

from phoneme.errors import InputError
from phoneme.models import CELLS, WindowedRecurrent
from tests.models.conftest import CONTEXT

SIZES = {"coeffs": 39, "classes": 41, "context": 11, "width": 8, "depth": 2}


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("step", "place"), [("centre", 5), ("last", 10)])
def test_is_pytorchs_own_network_read_at_one_step(cell, step, place):
    torch.manual_seed(0)
    model = WindowedRecurrent(**SIZES, cell=cell, step=step, dropout=0.5).eval()
    own = CELLS[cell](39, 8, 2, batch_first=True, bidirectional=True)
    own.load_state_dict(model.layers.state_dict())
    windows = torch.randn(3, 11, 39)
    torch.testing.assert_close(model(windows), model.output(own(windows)[0][:, place]))


def test_at_the_last_step_the_reader_from_the_end_knows_one_frame():
    """The defect that `step=last` is there to show: half of the answer does not depend on the centre frame."""
    torch.manual_seed(0)
    windows = torch.randn(1, 11, 39, requires_grad=True)
    layers = nn.LSTM(39, 8, 1, batch_first=True, bidirectional=True)
    model = WindowedRecurrent(**SIZES | {"depth": 1}, step="last")
    model.layers.load_state_dict(layers.state_dict())
    backwards = model.layers(windows)[0][:, model.step, 8:]
    (gradient,) = torch.autograd.grad(backwards.sum(), windows)
    assert gradient[0, :-1].abs().max() == 0 and gradient[0, -1].abs().max() > 0


@pytest.mark.parametrize("step", ["centre", "last"])
def test_learns_a_few_windows_by_heart(overfit, step):
    torch.manual_seed(0)
    model = WindowedRecurrent(coeffs=39, classes=41, context=CONTEXT, width=64, depth=1, step=step)
    assert overfit(model, steps=150, lr=1e-2) > 0.99


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    model, windows = WindowedRecurrent(**SIZES, dropout=0.5), torch.randn(3, 11, 39)
    assert not torch.equal(model(windows), model(windows))
    model.eval()
    assert torch.equal(model(windows), model(windows))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"cell": "rnn"}, r"(?s)a known cell, got rnn.*model\.cell"),
        ({"step": "first"}, r"(?s)centre or last, got first.*model\.step"),
        ({"depth": 0}, r"(?s)at least 1, got 0.*model\.depth"),
        ({"width": 0}, r"(?s)at least 1, got 0.*model\.width"),
        ({"dropout": 1.0}, r"(?s)a probability in \[0, 1\), got 1\.0.*model\.dropout"),
        ({"context": 4}, r"(?s)an odd number of frames, got 4.*model\.context"),
    ],
)
def test_refuses_settings(setting, message):
    with pytest.raises(InputError, match=message):
        WindowedRecurrent(**SIZES | setting)


def test_refuses_windows_with_their_axes_swapped():
    with pytest.raises(InputError, match="windows of 11 frames x 39 coefficients, got 39 x 11"):
        WindowedRecurrent(**SIZES)(torch.randn(2, 39, 11))
