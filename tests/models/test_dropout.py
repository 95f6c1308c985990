import pytest
import torch
import torch.nn.functional as F

from phoneme.errors import InputError
from phoneme.models import Conformer, FrameDropout, Recurrent, Tcn

SIZES = {"coeffs": 39, "classes": 41, "width": 16}
RESIDUAL = {"tcn": Tcn, "conformer": Conformer}


@pytest.fixture
def ones():
    torch.manual_seed(0)
    return torch.ones(200, 7, 50)  # [utterance, frame, unit]


def test_by_frame_it_is_pytorchs_own(ones):
    torch.manual_seed(1)
    expected = F.dropout(ones, 0.3)
    torch.manual_seed(1)
    assert torch.equal(FrameDropout(0.3, "frame")(ones), expected)


def test_by_utterance_a_unit_is_dropped_in_all_frames_or_in_none(ones):
    dropped = FrameDropout(0.3, "utterance")(ones) == 0
    assert torch.equal(dropped.any(1), dropped.all(1))
    assert abs(dropped.float().mean() - 0.3) < 0.01
    assert not torch.equal(dropped[0], dropped[1])


def test_by_branch_an_utterance_is_dropped_or_not(ones):
    dropped = FrameDropout(0.3, "branch")(ones) == 0
    assert torch.equal(dropped.flatten(1).any(1), dropped.flatten(1).all(1))
    assert abs(dropped[:, 0, 0].float().mean() - 0.3) < 0.1


@pytest.mark.parametrize("kind", ["frame", "utterance", "branch"])
def test_the_mean_stays_and_evaluation_changes_nothing(kind, ones):
    dropout = FrameDropout(0.5, kind)
    means = torch.stack([dropout(ones).mean() for _ in range(50)])
    assert abs(means.mean() - 1) < 0.03
    assert set(dropout(ones).unique().tolist()) == {0.0, 2.0}
    assert dropout.eval()(ones) is ones


@pytest.mark.parametrize("make", RESIDUAL.values(), ids=RESIDUAL)
def test_later_blocks_are_skipped_more(make):
    model = make(**SIZES, depth=4, layer_drop=0.4)
    assert [block.branch.share for block in model.blocks] == pytest.approx([0.1, 0.2, 0.3, 0.4])


def test_an_utterance_that_skips_a_block_leaves_it_as_it_came():
    """The others have the branch twice as strong, so that the mean over draws is the block of evaluation."""
    torch.manual_seed(0)
    block = Tcn(**SIZES, depth=1, norm="layer", layer_drop=0.5).blocks[0]
    frames, mask = torch.randn(1, 9, 16).expand(64, -1, -1), torch.ones(64, 9, dtype=torch.bool)
    whole = block.eval()(frames, mask) - frames
    drawn = block.train()(frames, mask) - frames
    skipped = (drawn == 0).flatten(1).all(1)
    assert 16 < skipped.sum() < 48
    torch.testing.assert_close(drawn[~skipped], 2 * whole[~skipped], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("make", RESIDUAL.values(), ids=RESIDUAL)
def test_a_network_whose_branches_are_all_but_certainly_skipped_still_has_gradients(make):
    torch.manual_seed(0)
    model = make(**SIZES, depth=1, norm="batch", layer_drop=0.99)
    model(torch.randn(2, 5, 39), torch.tensor([5, 3])).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("make", RESIDUAL.values(), ids=RESIDUAL)
def test_what_is_drawn_for_an_utterance_does_not_depend_on_the_padding(make):
    answers = []
    for padding in (0, 30):
        torch.manual_seed(0)
        model = make(**SIZES, depth=3, norm="batch", dropout=0.5, dropout_kind="utterance", layer_drop=0.5)
        inputs = F.pad(torch.randn(2, 9, 39), (0, 0, 0, padding), value=torch.nan)
        torch.manual_seed(1)
        answers.append(model(inputs, torch.tensor([9, 4])))
    for row, n in enumerate((9, 4)):
        torch.testing.assert_close(answers[0][row, :n], answers[1][row, :n], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (
            Recurrent,
            {"dropout_kind": "utterence"},
            r"(?s)frame or utterance, got utterence.*model\.dropout_kind.*mean utt",
        ),
        (Tcn, {"dropout_kind": "branch"}, r"(?s)frame or utterance, got branch.*model\.dropout_kind"),
        (Tcn, {"layer_drop": 1.0}, r"(?s)a probability in \[0, 1\), got 1\.0.*model\.layer_drop"),
        (Conformer, {"layer_drop": -0.1}, r"(?s)a probability in \[0, 1\), got -0\.1.*model\.layer_drop"),
    ],
)
def test_refuses(make, options, message):
    with pytest.raises(InputError, match=message):
        make(**SIZES, depth=1, **options)
