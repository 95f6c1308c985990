"""Windows and padded utterances against loops that are too simple to be wrong."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from phoneme.losses import IGNORE
from phoneme.windows import gather_labels, gather_utterances, gather_windows, neighbours

lengths = st.lists(st.integers(1, 9), min_size=1, max_size=6)


def corpus(sizes: list[int], coeffs: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    frames = torch.arange(sum(sizes) * coeffs, dtype=torch.float32).view(-1, coeffs)
    return frames, torch.tensor([0, *sizes]).cumsum(0)


@settings(deadline=None)
@given(lengths, st.integers(0, 50), st.randoms())
def test_windows_equal_a_loop(sizes, radius, rng):
    frames, offsets = corpus(sizes)
    index = torch.tensor([rng.randrange(len(frames)) for _ in range(7)])
    windows = gather_windows(frames, offsets, index, 2 * radius + 1)
    for window, t in zip(windows, index.tolist(), strict=True):
        utterance = next(u for u in range(len(sizes)) if offsets[u] <= t < offsets[u + 1])
        first, last = int(offsets[utterance]), int(offsets[utterance + 1]) - 1
        rows = [min(max(t + k, first), last) for k in range(-radius, radius + 1)]
        assert torch.equal(window, frames[rows])


@settings(deadline=None)
@given(lengths, st.integers(0, 3))
def test_neighbours_never_leave_the_utterance(sizes, radius):
    _, offsets = corpus(sizes)
    everything = torch.arange(sum(sizes))
    owner = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    assert torch.equal(
        owner[neighbours(offsets, everything, 2 * radius + 1)], owner[:, None].expand(-1, 2 * radius + 1)
    )


@settings(deadline=None)
@given(lengths, st.randoms())
def test_utterances_equal_a_loop(sizes, rng):
    frames, offsets = corpus(sizes)
    labels = torch.randint(0, 41, (len(frames),), dtype=torch.uint8)
    rows = rng.sample(range(len(sizes)), rng.randint(1, len(sizes)))
    longest = max(sizes[u] for u in rows)
    features, index, n, mask = gather_utterances(frames, offsets, torch.tensor(rows), longest)
    targets = gather_labels(labels, index, mask, IGNORE)
    for i, u in enumerate(rows):
        span = slice(int(offsets[u]), int(offsets[u + 1]))
        assert n[i] == sizes[u] == mask[i].sum()
        assert torch.equal(features[i, : sizes[u]], frames[span])
        assert torch.equal(targets[i, : sizes[u]], labels[span].long())
        assert (features[i, sizes[u] :] == 0).all() and (targets[i, sizes[u] :] == IGNORE).all()


def test_half_precision_frames_come_out_as_float32():
    frames, offsets = corpus([4])
    window = gather_windows(frames.half(), offsets, torch.tensor([1]), 3)
    assert window.dtype == torch.float32 and torch.equal(window[0], frames[:3])
