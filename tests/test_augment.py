"""Augmentation: where the masks lie and how wide they are, on real utterances with NaN for padding."""

import math

import pytest
import torch

from phoneme.augment import Augment, random_bands, resample
from phoneme.columns import Features
from phoneme.config import shipped
from phoneme.datamodule import FrameBatch, UtteranceBatch
from phoneme.errors import InputError
from phoneme.features import with_deltas
from phoneme.losses import IGNORE

OFF = {
    "time_masks": 0,
    "time_frames": 15,
    "time_share": 0.1,
    "frequency_masks": 0,
    "frequency_width": 3,
    "noise": 0.0,
    "speed": 0.0,
}
LENGTHS = [5, 300, 1, 120]


def augment(window=None, features="time_deltas", **settings):
    return Augment(columns_of=Features(features).columns_of(39), window=window, ignore=IGNORE, **OFF | settings)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def batch():
    """Utterances of 5, 300, 1 and 120 frames of real speech, padded to 310 with NaN."""
    root = shipped("data/sample")
    name, *labels = max((root / "train_labels.txt").read_text().splitlines(), key=len).split()
    frames = torch.load(root / "feat" / "train" / f"{name}.pt", weights_only=True).float()
    inputs, targets = torch.full((4, 310, 39), math.nan), torch.full((4, 310), IGNORE)
    for row, n in enumerate(LENGTHS):
        inputs[row, :n] = frames[:n]
        targets[row, :n] = torch.tensor([int(label) for label in labels[:n]])
    return UtteranceBatch(inputs, targets, torch.zeros(4, 310, dtype=torch.bool), torch.tensor(LENGTHS))


@pytest.fixture(scope="module")
def windows(batch):
    index = torch.arange(100)[:, None] + torch.arange(11)
    centres = batch.targets[1, 5:105]
    return FrameBatch(batch.inputs[1][index], centres, torch.zeros(100, dtype=torch.bool))


def hidden(before, after, row):
    n = before.lengths[row]
    return before.inputs[row, :n] != after.inputs[row, :n]  # [frame, coeff]


def test_bands_are_uniform_in_width_and_fill_the_row():
    """Widths 0 … 3 are equally likely, and every place is hidden sometimes; none beyond the row's own size."""
    rows = 40_000
    bands = random_bands(torch.full((rows,), 6), torch.full((rows,), 3), 8, 1, seeded())
    widths = bands.sum(1).bincount(minlength=4) / rows
    torch.testing.assert_close(widths, torch.full((4,), 0.25), atol=0.01, rtol=0)
    assert not bands[:, 6:].any() and (bands[:, :6].float().mean(0) > 0.1).all()
    assert (bands.int().diff(dim=1).abs().sum(1) <= 2).all()  # one stretch a row


def test_time_masks_hide_whole_frames_and_no_more_than_their_share(batch):
    widest = {row: 0 for row in range(4)}
    for seed in range(100):
        after = augment(time_masks=1)(batch, seeded(seed))
        for row in range(4):
            frames = hidden(batch, after, row)
            assert torch.equal(frames.any(1), frames.all(1))
            widest[row] = max(widest[row], int(frames.all(1).sum()))
    assert widest == {0: 0, 1: 15, 2: 0, 3: 12}  # a tenth of 5, 300, 1 and 120 frames, at most 15


def test_what_is_hidden_is_0_the_mean_of_normalised_features(batch):
    after = augment(time_masks=3, frequency_masks=1)(batch, seeded(3))
    for row in (1, 3):
        where = hidden(batch, after, row)
        assert where.any() and not where.all()
        assert (after.inputs[row, : batch.lengths[row]][where] == 0).all()


def test_frequency_masks_hide_a_coefficient_its_deltas_and_all_frames(batch):
    widths = set()
    for seed in range(60):
        where = hidden(batch, augment(frequency_masks=1)(batch, seeded(seed)), 1)
        columns = where.all(0)
        assert torch.equal(columns, where.any(0))
        blocks = columns.view(3, 13)
        assert torch.equal(blocks[0], blocks[1]) and torch.equal(blocks[0], blocks[2])
        widths.add(int(blocks[0].sum()))
    assert widths == {0, 1, 2, 3}


def test_nothing_that_is_seen_gives_back_what_is_hidden(batch):
    """The course's 39 columns are linear in the 13 statics: of the visible ones none may hold a hidden one."""
    statics = torch.eye(13)
    columns = with_deltas(statics, ("cepstral",))  # [coefficient, column]: what each column is made of
    widths = set()
    for seed in range(60):
        masks = augment(features="course", frequency_masks=1)
        hides = hidden(batch, masks(batch, seeded(seed)), 1).all(0)
        rank = int(torch.linalg.matrix_rank(columns[:, ~hides]))
        assert rank == 13 - int(hides[:13].sum())
        widths.add(13 - rank)
    assert widths == {0, 1, 2, 3}


def test_mel_bins_are_each_for_themselves(batch):
    masks = Augment(
        columns_of=Features("logmel", bins=39).columns_of(39),
        **{"window": None, "ignore": IGNORE} | OFF | {"frequency_masks": 1, "frequency_width": 20},
    )
    where = hidden(batch, masks(batch, seeded(1)), 1).all(0)
    assert int(where.sum()) > 3 and int(where.int().diff().abs().sum()) <= 2  # one stretch


def test_each_utterance_has_masks_of_its_own(batch):
    after = augment(frequency_masks=2)(batch, seeded(0))
    assert not torch.equal(hidden(batch, after, 1).all(0), hidden(batch, after, 3).all(0))


EVERYTHING = {"time_masks": 4, "frequency_masks": 2, "noise": 0.3}


def test_padding_is_neither_read_nor_written(batch):
    """It is NaN before and after, and the real frames have no NaN; with another padding they are the same."""
    after = augment(**EVERYTHING)(batch, seeded())
    real = torch.arange(310) < batch.lengths[:, None]
    assert after.inputs[~real].isnan().all() and not after.inputs[real].isnan().any()
    zeros = batch._replace(inputs=batch.inputs.nan_to_num(0.0))
    assert torch.equal(augment(**EVERYTHING)(zeros, seeded()).inputs[real], after.inputs[real])
    assert torch.equal(after.targets, batch.targets) and torch.equal(after.lengths, batch.lengths)


def test_noise_has_the_deviation_that_was_asked_for(batch):
    after = augment(noise=0.2)(batch, seeded())
    difference = (after.inputs - batch.inputs)[1, :300]
    assert abs(float(difference.std()) - 0.2) < 0.005 and abs(float(difference.mean())) < 0.005


def test_the_same_generator_draws_the_same(batch):
    one, other, third = (augment(**EVERYTHING, speed=0.1)(batch, seeded(seed)).inputs for seed in (5, 5, 6))
    assert torch.equal(one, other) and not torch.equal(one, third)


def test_the_batch_that_came_in_is_left_as_it_is(batch):
    before = batch.inputs.clone()
    augment(**EVERYTHING, speed=0.1)(batch, seeded())
    assert torch.equal(batch.inputs.nan_to_num(), before.nan_to_num())


# -- speed ---------------------------------------------------------------------------------------------------


def test_the_same_length_changes_nothing(batch):
    inputs, nearest, mask = resample(batch.inputs, batch.lengths, batch.lengths, 310)
    assert torch.equal(inputs, batch.inputs.nan_to_num(0.0))
    assert torch.equal(nearest[mask], torch.arange(310).expand(4, -1)[mask])


def test_a_straight_line_stays_one():
    """Twice as many frames of a ramp: between the middles of the outer frames every value lies on it."""
    ramp = torch.arange(10.0).view(1, 10, 1)
    inputs, nearest, _ = resample(ramp, torch.tensor([10]), torch.tensor([20]), 20)
    expected = ((torch.arange(20) + 0.5) / 2 - 0.5).clamp(0, 9)
    torch.testing.assert_close(inputs.flatten(), expected)
    assert torch.equal(nearest[0].bincount(), torch.full((10,), 2))  # each old frame is the nearest of two


def test_speed_changes_lengths_within_the_limit_and_keeps_the_order_of_labels(batch):
    lengths = []
    for seed in range(50):
        after = augment(speed=0.1)(batch, seeded(seed))
        assert after.inputs.shape == (4, 341, 39) and not after.inputs.isnan().any()
        for row in range(4):
            n, m = int(batch.lengths[row]), int(after.lengths[row])
            assert m >= 1 and abs(m - n) <= 0.1 * n + 0.5
            assert (after.targets[row, m:] == IGNORE).all() and (after.inputs[row, m:] == 0).all()
            order = batch.targets[row, :n].unique_consecutive()
            kept = after.targets[row, :m].unique_consecutive()
            remaining = iter(order.tolist())
            assert all(label in remaining for label in kept.tolist())  # a subsequence: none is new, none moves
        lengths.append(int(after.lengths[1]))
    assert min(lengths) < 280 and max(lengths) > 320


def test_labels_stay_with_their_frames(batch):
    """A feature that is the label itself is, after the stretch, everywhere near the label there."""
    inputs = batch.targets[:, :, None].expand(-1, -1, 39).float()
    after = augment(speed=0.3)(batch._replace(inputs=inputs), seeded(1))
    m = int(after.lengths[1])
    agree = (after.inputs[1, :m, 0].round() == after.targets[1, :m]).float().mean()
    assert agree > 0.8  # between two phones it is in between


# -- windows -------------------------------------------------------------------------------------------------


def test_the_centre_of_a_window_is_never_hidden_in_time(windows):
    changed = torch.zeros(11)
    for seed in range(50):
        after = augment(window=11, time_masks=3, time_share=0.3)(windows, seeded(seed))
        changed += (after.inputs != windows.inputs).any(2).float().mean(0)
    assert changed[5] == 0 and (changed[[0, 1, 2, 3, 4, 6, 7, 8, 9, 10]] > 1).all()


def test_a_window_without_room_for_a_mask_is_said(caplog):
    augment(window=5, time_masks=2)
    assert "augment.time_masks has no effect: augment.time_share of 5 frames is no frame" in caplog.text


# -- refusals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"time_masks": -1}, r"(?s)0 or more, got -1.*augment\.time_masks"),
        ({"time_frames": 0}, r"(?s)1 or more, got 0.*augment\.time_frames"),
        ({"time_share": 0.0}, r"(?s)a share in \(0, 1\], got 0\.0.*augment\.time_share"),
        ({"frequency_masks": -2}, r"(?s)0 or more, got -2.*augment\.frequency_masks"),
        ({"frequency_masks": 1, "frequency_width": 14}, r"(?s)1 to 13 coefficients, got 14.*frequency_width"),
        ({"frequency_masks": 1, "frequency_width": 0}, r"(?s)1 to 13 coefficients, got 0.*frequency_width"),
        ({"noise": -0.1}, r"(?s)0 or more, got -0\.1.*augment\.noise"),
        ({"noise": math.nan}, r"(?s)0 or more, got nan.*augment\.noise"),
        ({"speed": 1.0}, r"(?s)a share in \[0, 1\), got 1\.0.*augment\.speed"),
        ({"speed": 0.1, "window": 11}, r"(?s)0 for a frame model, got 0\.1.*augment\.speed.*whole utterances"),
    ],
)
def test_refuses(settings, message):
    with pytest.raises(InputError, match=message):
        augment(**settings)


def test_a_frame_by_itself_loses_coefficients_too(windows):
    """At a context of 1 there are no neighbours whose mean could stand for them."""
    alone = windows._replace(inputs=windows.inputs[:, 5:6])
    changed = (augment(window=1, frequency_masks=1)(alone, seeded()).inputs != alone.inputs).any(2)
    assert 0.5 < changed.float().mean() < 1  # a width of 0 is drawn too


def test_what_is_switched_off_asks_nothing_of_the_features():
    assert not Augment(columns_of=torch.eye(2, dtype=torch.bool), window=None, ignore=IGNORE, **OFF).acts
    assert augment(noise=0.1).acts
