import pytest
import torch

from phoneme.errors import InputError
from phoneme.models import Conformer
from phoneme.models.attention import Attention, rotate


def test_turned_vectors_know_their_distance_only():
    torch.manual_seed(0)
    one, other = torch.randn(2, 6)
    turned = rotate(one.expand(1, 1, 20, 6))[0, 0] @ rotate(other.expand(1, 1, 20, 6))[0, 0].T  # [frame, frame]
    for distance in (-3, 0, 5):
        diagonal = turned.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal))
    assert turned[0, 0] == pytest.approx(float(one @ other), abs=1e-5)
    assert not torch.isclose(turned[0, 3], turned[3, 0])  # the direction counts


def test_attention_is_the_softmax_written_out():
    torch.manual_seed(0)
    layer = Attention(8, heads=2, dropout=torch.nn.Identity())
    frames, mask = torch.randn(1, 5, 8), torch.tensor([[True] * 3 + [False] * 2])
    queries, keys, values = layer.queries_keys_values(layer.norm(frames)).view(1, 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
    scores = rotate(queries) @ rotate(keys[..., :3, :]).transpose(-1, -2) / 2  # root of the head's size
    by_hand = (scores.softmax(-1) @ values[..., :3, :]).transpose(1, 2).reshape(1, 5, 8)
    torch.testing.assert_close(layer(frames, mask), layer.output(by_hand))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 36}, r"(?s)a multiple of 8: 4 heads of an even size, got 36.*model\.width.*hint: rotary"),
        ({"heads": 0}, r"(?s)at least 1, got 0.*model\.heads"),
        ({"expansion": 0}, r"(?s)at least 1, got 0.*model\.expansion"),
        ({"kernel": 4}, r"(?s)an odd number of frames, got 4.*model\.kernel"),
    ],
)
def test_refuses(options, message):
    with pytest.raises(InputError, match=message):
        Conformer(coeffs=39, classes=41, **{"width": 32, "depth": 1} | options)
