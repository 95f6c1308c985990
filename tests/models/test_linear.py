import pytest
import torch

from phoneme.errors import InputError
from phoneme.models import Linear, count_parameters


def test_is_one_affine_map_of_the_flattened_window():
    torch.manual_seed(0)
    model = Linear(coeffs=3, classes=4, context=5)
    windows = torch.randn(2, 5, 3)
    by_hand = torch.stack([model.output.weight @ window.reshape(15) + model.output.bias for window in windows])
    torch.testing.assert_close(model(windows), by_hand)
    assert count_parameters(model) == 15 * 4 + 4


def test_says_what_a_batch_is_made_of():
    model = Linear(coeffs=39, classes=41, context=11)
    assert (model.unit, model.context) == ("frame", 11)


@pytest.mark.parametrize("context", [10, 0, -1])
def test_refuses_a_window_without_centre(context):
    with pytest.raises(InputError, match=rf"(?s)odd number of frames, got {context}.*model\.context.*hint: the centre"):
        Linear(coeffs=39, classes=41, context=context)


def test_refuses_swapped_axes_that_flatten_to_the_same_size():
    model = Linear(coeffs=39, classes=41, context=11)
    with pytest.raises(InputError, match=r"(?s)11 frames x 39 coeff.*got 39 x 11.*input of Linear.*hint:"):
        model(torch.zeros(2, 39, 11))


def test_overfits_real_frames(overfit):
    torch.manual_seed(0)
    assert overfit(Linear(coeffs=39, classes=41, context=11), steps=60, lr=0.01) == 1.0
