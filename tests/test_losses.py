import math

import pytest
import torch
import torch.nn.functional as F

from phoneme.errors import InputError
from phoneme.losses import IGNORE, LOSSES, cross_entropy, make_loss, mse_on_softmax


@pytest.fixture
def batch():
    torch.manual_seed(0)
    logits = torch.randn(4, 6, 5, dtype=torch.float64)
    targets = torch.randint(5, (4, 6))
    targets[1, 3:] = IGNORE
    return logits, targets


def test_cross_entropy_is_flat_nowhere_and_mse_is_where_the_network_is_surely_wrong():
    """The lecture's plot: y3 = -1000, class 1 right, at (y1, y2) = (-10, 10)."""

    def gradient(loss) -> float:
        logits = torch.tensor([[-10.0, 10.0, -1000.0]], dtype=torch.float64, requires_grad=True)
        loss(logits, torch.tensor([0])).backward()
        return logits.grad.norm().item()

    p = 1 / (1 + math.exp(20))  # what the softmax gives the right class
    assert gradient(cross_entropy) == pytest.approx(math.sqrt(2) * (1 - p), rel=1e-12)  # ~ 1
    assert gradient(mse_on_softmax) == pytest.approx(math.sqrt(2) * 4 * p * (1 - p) ** 2, rel=1e-9)  # ~ 1e-8
    assert 1e-9 < gradient(mse_on_softmax) < 1e-7


def test_minimising_cross_entropy_is_maximising_likelihood(batch):
    logits, targets = batch[0][0], batch[1][0]
    likelihood = math.prod(row[target].item() for row, target in zip(logits.softmax(dim=-1), targets, strict=True))
    total = cross_entropy(logits, targets).item() * len(targets)
    assert total == pytest.approx(-math.log(likelihood), rel=1e-13)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_cross_entropy_is_torchs_mean_over_labelled_frames(batch, label_smoothing):
    logits, targets = batch
    expected = F.cross_entropy(logits[targets != IGNORE], targets[targets != IGNORE], label_smoothing=label_smoothing)
    torch.testing.assert_close(cross_entropy(logits, targets, label_smoothing=label_smoothing), expected)


def test_mse_is_the_sum_over_classes_written_as_a_loop(batch):
    logits, targets = batch
    errors = []
    for row, target in zip(logits.flatten(end_dim=1), targets.flatten().tolist(), strict=True):
        if target != IGNORE:
            p = (row.exp() / row.exp().sum()).tolist()
            errors.append(sum(((index == target) - p[index]) ** 2 for index in range(5)))
    assert mse_on_softmax(logits, targets).item() == pytest.approx(sum(errors) / len(errors), rel=1e-12)


@pytest.mark.parametrize("loss", LOSSES.values())
def test_masked_frames_have_no_gradient(batch, loss):
    logits, targets = batch
    logits.requires_grad_()
    loss(logits, targets).backward()
    assert torch.equal((logits.grad != 0).any(dim=-1), targets != IGNORE)


@pytest.mark.parametrize("loss", LOSSES.values())
def test_a_batch_without_labels_changes_nothing(loss):
    logits = torch.randn(3, 5, requires_grad=True)
    value = loss(logits, torch.full((3,), IGNORE))
    value.backward()
    assert value.item() == 0.0
    assert torch.equal(logits.grad, torch.zeros(3, 5))


@pytest.mark.parametrize("loss", LOSSES.values())
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(loss, dtype):
    torch.manual_seed(0)
    logits = torch.randn(5000, 41, dtype=dtype)
    targets = torch.randint(41, (5000,))
    value = loss(logits, targets)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), loss(logits.double(), targets), rtol=1e-5, atol=0)


def test_make_loss_binds_the_options(batch):
    smoothed = make_loss("cross_entropy", label_smoothing=0.1)
    assert smoothed(*batch) == cross_entropy(*batch, label_smoothing=0.1)
    assert make_loss("mse")(*batch) == mse_on_softmax(*batch)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("nll", {}, r"(?s)a known loss, got nll.*loss\.name.*known here: cross_entropy, mse"),
        (
            "mse",
            {"label_smoothing": 0.1},
            r"(?s)option of mse, got label_smoothing.*loss\.label_sm.*here: nothing",
        ),
        ("cross_entropy", {"smoothing": 0.1}, r"(?s)got smoothing.*did you mean label_smoothing"),
        ("cross_entropy", {"label_smoothing": 1.0}, r"(?s)in \[0, 1\), got 1\.0.*loss\.label_sm.*hint:"),
        ("cross_entropy", {"label_smoothing": -0.1}, r"(?s)share in \[0, 1\), got -0\.1"),
    ],
)
def test_refuses(name, options, message):
    with pytest.raises(InputError, match=message):
        make_loss(name, **options)


def test_padding_counts_as_a_class_where_asked():
    torch.manual_seed(0)
    logits, targets = torch.randn(2, 3, 4), torch.tensor([[1, 2, IGNORE], [3, IGNORE, IGNORE]])
    as_class = targets.where(targets != IGNORE, 2)
    counted = make_loss("cross_entropy", label_smoothing=0.1, padding_class=2)(logits, targets)
    torch.testing.assert_close(counted, make_loss("cross_entropy", label_smoothing=0.1)(logits, as_class))
    assert not torch.allclose(counted, make_loss("cross_entropy", label_smoothing=0.1)(logits, targets))


def test_padding_counts_as_a_class_that_there_is():
    with pytest.raises(InputError, match=r"(?s)a class from 0 to 3, or null, got 4.*loss\.padding_class.*hint:"):
        cross_entropy(torch.zeros(2, 4), torch.tensor([0, IGNORE]), padding_class=4)
