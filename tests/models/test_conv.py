import pytest
import torch

from phoneme.errors import InputError
from phoneme.models import Tcn, count_parameters


@pytest.mark.parametrize(
    ("options", "frames"),
    [
        ({"depth": 8}, 61),
        ({"depth": 4, "kernel": 5}, 61),
        ({"depth": 3, "cycle": 2, "separable": True}, 9),
        ({"depth": 2, "front_depth": 2, "front_kernel": 7}, 19),
    ],
)
def test_sees_as_many_frames_as_it_says(options, frames):
    torch.manual_seed(0)
    model = Tcn(coeffs=3, classes=4, width=8, norm="layer", **options)
    inputs = torch.randn(1, 101, 3, requires_grad=True)
    model(inputs, torch.tensor([101]))[0, 50].sum().backward()
    (seen,) = inputs.grad[0].abs().sum(1).nonzero(as_tuple=True)
    assert model.receptive_field == frames == seen.max() - seen.min() + 1
    assert seen.float().mean() == 50


def test_a_separable_convolution_has_fewer_parameters_by_about_the_kernel():
    plain, separable = (Tcn(coeffs=3, classes=4, width=64, depth=1, kernel=5, separable=s) for s in (False, True))
    assert count_parameters(plain) - count_parameters(separable) == 64 * 64 * 5 - 64 * 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel": 2}, r"(?s)an odd number of frames, got 2.*model\.kernel.*hint: the centre"),
        ({"cycle": 0}, r"(?s)at least 1, got 0.*model\.cycle.*1, 2, 4, 8"),
    ],
)
def test_refuses(options, message):
    with pytest.raises(InputError, match=message):
        Tcn(coeffs=39, classes=41, width=8, **{"depth": 1} | options)
