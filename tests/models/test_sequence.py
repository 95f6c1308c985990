"""What holds for every model on whole utterances."""

import math

import pytest
import torch
from torch import nn

from phoneme.errors import InputError
from phoneme.losses import IGNORE, cross_entropy
from phoneme.models import DROPOUT_KINDS, FRAME_NORMS, Conformer, Recurrent, SequenceModel, Tcn

SIZES = {"coeffs": 39, "classes": 41}
MAKERS = {
    "gru": lambda **more: Recurrent(**SIZES, **{"width": 16, "depth": 2} | more),
    "lstm": lambda **more: Recurrent(**SIZES, **{"width": 16, "depth": 2, "cell": "lstm"} | more),
    "tcn": lambda **more: Tcn(**SIZES, **{"width": 16, "depth": 3} | more),
    "separable": lambda **more: Tcn(**SIZES, **{"width": 16, "depth": 3, "separable": True} | more),
    "conformer": lambda **more: Conformer(**SIZES, **{"width": 16, "depth": 2, "dropout": 0.0} | more),
}
every_model = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
FRONT = {"front_depth": 2, "front_kernel": 5}
LENGTHS = torch.tensor([3, 40, 1, 17])


def noise(lengths: torch.Tensor, longest: int, padding: float = math.nan) -> torch.Tensor:
    """Utterances of random numbers; what is read of their padding spoils the answer."""
    torch.manual_seed(1)
    inputs = torch.randn(len(lengths), int(lengths.max()), 39)
    inputs = nn.functional.pad(inputs, (0, 0, 0, longest - inputs.shape[1]))
    return inputs.masked_fill(torch.arange(longest)[:, None] >= lengths[:, None, None], padding)


def moved(model: SequenceModel) -> SequenceModel:
    """Norms with numbers of their own, as after some training."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            nn.init.uniform_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return model


@every_model
def test_gives_every_frame_its_logits(make):
    model = make()
    assert model.unit == "utterance"
    assert model(noise(LENGTHS, 40), LENGTHS).shape == (4, 40, 41)


@every_model
@pytest.mark.parametrize("norm", FRAME_NORMS)
@pytest.mark.parametrize("front", [{}, FRONT], ids=["bare", "front"])
def test_the_answer_does_not_depend_on_the_company(make, norm, front):
    """Alone, in a batch, with more padding, with NaN for padding: the same. One is a frame long, two are short."""
    torch.manual_seed(0)
    model = moved(make(norm=norm, **front)).eval()
    together = model(noise(LENGTHS, 40), LENGTHS)
    longer = model(noise(LENGTHS, 60), LENGTHS)
    for i, n in enumerate(LENGTHS.tolist()):
        alone = model(noise(LENGTHS, 40)[i : i + 1, :n], LENGTHS[i : i + 1])
        torch.testing.assert_close(together[i, :n], alone[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(longer[i, :n], alone[0], atol=1e-5, rtol=0)


@every_model
@pytest.mark.parametrize("norm", FRAME_NORMS)
def test_bfloat16_says_the_same_but_for_rounding(make, norm):
    torch.manual_seed(0)
    model, real = make(norm=norm, **FRONT), torch.arange(40) < LENGTHS[:, None]
    exact = model(noise(LENGTHS, 40, padding=0.0), LENGTHS)[real]
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(noise(LENGTHS, 40, padding=0.0), LENGTHS)[real]
    rounded.float().square().sum().backward()
    assert 1e-4 < (rounded - exact).norm() / exact.norm() < 0.03
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@every_model
@pytest.mark.parametrize("norm", FRAME_NORMS)
def test_training_does_not_see_padding(make, norm):
    """Loss, gradients and stored statistics of a batch, whatever its padding."""
    targets = torch.randint(41, (4, 40)).masked_fill(torch.arange(40) >= LENGTHS[:, None], IGNORE)
    results = []
    for longest in (40, 64):
        torch.manual_seed(0)
        model = make(norm=norm, **FRONT).train()
        padded = nn.functional.pad(targets, (0, longest - 40), value=IGNORE)
        loss = cross_entropy(model(noise(LENGTHS, longest), LENGTHS), padded)
        loss.backward()
        results.append([loss.detach(), *(p.grad for p in model.parameters()), *model.buffers()])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@every_model
@pytest.mark.parametrize("lengths", [[1], [2], [1, 1], [5, 1]])
def test_trains_on_what_is_shorter_than_its_reach(make, lengths):
    torch.manual_seed(0)
    model = make(norm="batch", **FRONT).train()
    lengths = torch.tensor(lengths)
    model(noise(lengths, int(lengths.max())), lengths).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert all(buffer.isfinite().all() for buffer in model.buffers())


@every_model
def test_utterances_without_labels_change_nothing(make):
    torch.manual_seed(0)
    model = make()
    inputs, targets = noise(LENGTHS, 40), torch.full((4, 40), IGNORE)
    loss = cross_entropy(model(inputs, LENGTHS), targets)
    loss.backward()
    assert loss == 0 and all((p.grad == 0).all() for p in model.parameters())


@every_model
def test_every_parameter_is_used(make):
    torch.manual_seed(0)
    model = make(norm="layer", **FRONT)
    model(noise(LENGTHS, 40), LENGTHS)[0, :3].square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())


@every_model
def test_overfits_real_utterances(make, real_utterances):
    inputs, lengths, labels = real_utterances
    torch.manual_seed(0)
    model = make(width=64, dropout=0.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(60):
        optimizer.zero_grad()
        cross_entropy(model(inputs, lengths), labels).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    with torch.no_grad():
        right = model.eval()(inputs, lengths).argmax(-1) == labels
    assert right[labels != IGNORE].float().mean() > 0.95


@every_model
def test_the_same_training_gives_the_same_bits(make, real_utterances):
    inputs, lengths, labels = real_utterances

    def weights() -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = make(dropout=0.5, norm="batch", **FRONT).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        for _ in range(3):
            optimizer.zero_grad()
            cross_entropy(model(inputs, lengths), labels).backward()
            optimizer.step()
        return list(model.state_dict().values())

    assert all(torch.equal(a, b) for a, b in zip(weights(), weights(), strict=True))


@every_model
@pytest.mark.parametrize("kind", DROPOUT_KINDS)
def test_dropout_acts_in_training_only(make, kind):
    torch.manual_seed(0)
    model, inputs = make(dropout=0.5, dropout_kind=kind), noise(LENGTHS, 40)
    real = torch.arange(40) < LENGTHS[:, None]
    assert not torch.equal(model(inputs, LENGTHS)[real], model(inputs, LENGTHS)[real])
    model.eval()
    assert torch.equal(model(inputs, LENGTHS)[real], model(inputs, LENGTHS)[real])


@every_model
@pytest.mark.parametrize("lengths", [[0, 5], [5, 6], [-1, 5]])
def test_refuses_lengths_that_the_frames_do_not_have(make, lengths):
    with pytest.raises(
        InputError, match=r"(?s)lengths from 1 to 5, the frames there are, got.*hint: an utterance with"
    ):
        make()(torch.zeros(2, 5, 39), torch.tensor(lengths))


def test_refuses_other_features_and_another_number_of_lengths():
    model = MAKERS["tcn"]()
    with pytest.raises(InputError, match=r"(?s)39 coefficients a frame, got 2 x 39 x 5.*input of Tcn.*hint: the axes"):
        model(torch.zeros(2, 39, 5), torch.tensor([5, 5]))
    with pytest.raises(InputError, match=r"(?s)2 lengths, one an utterance, got 1.*lengths of Tcn.*hint: lengths"):
        model.mask_of(torch.zeros(2, 5, 39), torch.tensor([5]))


@every_model
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, r"(?s)at least 1, got 0.*model\.width.*hint: 128"),
        ({"depth": 0}, r"(?s)at least 1, got 0.*model\.depth"),
        ({"dropout": 1.0}, r"(?s)a probability in \[0, 1\), got 1\.0.*model\.dropout"),
        ({"norm": "bach"}, r"(?s)a known normalization, got bach.*model\.norm.*did you mean batch\?"),
        ({"norm": "weight"}, r"(?s)a normalization of activations: none, batch.*got weight.*hint: those that act"),
        ({"norm": "group", "width": 24}, r"(?s)a multiple of 16, got (24|48)"),
        ({"front_depth": -1}, r"(?s)at least 0, got -1.*model\.front_depth"),
        ({"front_kernel": 4}, r"(?s)an odd number of frames, got 4.*model\.front_kernel"),
    ],
)
def test_refuses(make, options, message):
    if options == {"norm": "group", "width": 24} and make in (MAKERS["gru"], MAKERS["lstm"]):
        options = {"norm": "group", "width": 20}
        message = r"a multiple of 16, got 40"
    with pytest.raises(InputError, match=message):
        make(**options)
