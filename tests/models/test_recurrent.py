import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from phoneme.errors import InputError
from phoneme.models import CELLS, Recurrent
from phoneme.models.recurrent import BothDirections, reversed_order

LENGTHS = torch.tensor([4, 9, 1])


@pytest.mark.parametrize("cell", CELLS)
def test_a_layer_is_pytorchs_own_on_packed_sequences(cell):
    torch.manual_seed(0)
    layer = BothDirections(cell, 5, 6)
    own = CELLS[cell](5, 6, batch_first=True, bidirectional=True)
    own.load_state_dict(
        layer.onwards.state_dict() | {f"{name}_reverse": w for name, w in layer.backwards.state_dict().items()}
    )
    inputs = torch.randn(3, 9, 5)
    mask = torch.arange(9) < LENGTHS[:, None]
    packed, _ = own(pack_padded_sequence(inputs, LENGTHS, batch_first=True, enforce_sorted=False))
    expected, _ = pad_packed_sequence(packed, batch_first=True)
    torch.testing.assert_close(layer(inputs, reversed_order(mask))[mask], expected[mask])


def test_refuses_an_unknown_cell():
    with pytest.raises(InputError, match=r"(?s)a known cell, got gur.*model\.cell.*did you mean gru\? known here: gru"):
        Recurrent(coeffs=39, classes=41, width=8, depth=1, cell="gur")


def test_unmasked_it_is_pytorchs_own_on_the_padding_too():
    """The notebooks' defect, on demand: what is said about an utterance depends on the longest one of its batch."""
    torch.manual_seed(0)
    model = Recurrent(coeffs=5, classes=3, width=6, depth=1, masked=False)
    layer = model.layers[0]
    own = nn.GRU(5, 6, batch_first=True, bidirectional=True)
    own.load_state_dict(
        layer.onwards.state_dict() | {f"{name}_reverse": w for name, w in layer.backwards.state_dict().items()}
    )
    inputs = torch.randn(3, 9, 5) * (torch.arange(9) < LENGTHS[:, None])[:, :, None]
    torch.testing.assert_close(model(inputs, LENGTHS), model.output(own(inputs)[0]))
    alone = model(inputs[:1, :4], LENGTHS[:1])
    assert not torch.allclose(alone[0], model(inputs, LENGTHS)[0, :4], atol=1e-3)
