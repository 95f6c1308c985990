"""The order of batches: complete, disjoint, repeatable, resumable."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from phoneme.batches import IndexBatches, UtteranceBatches
from phoneme.errors import InputError

seeds = st.none() | st.integers(0, 5)


def utterance_batches(sizes: list[int], **options) -> UtteranceBatches:
    return UtteranceBatches(torch.arange(len(sizes)), torch.tensor(sizes), 40, **options)


@settings(deadline=None)
@given(st.integers(4, 300), st.integers(1, 70), st.integers(1, 4), seeds, st.integers(0, 3))
def test_each_frame_is_in_one_batch_of_one_process(n, batch_size, world, seed, epoch):
    index = torch.arange(100, 100 + n)
    loaders = [IndexBatches(index, batch_size, seed=seed, rank=rank, world=world) for rank in range(world)]
    for loader in loaders:
        loader.set_epoch(epoch)
    taken = [list(loader) for loader in loaders]
    assert torch.equal(torch.cat([b for batches in taken for b in batches]).sort().values, index)
    assert {len(batches) for batches in taken} == {len(loaders[0])}
    sizes = [len(b) for batches in taken for b in batches]
    assert min(sizes) > 0 and max(sizes) <= min(sizes) + 1
    assert max(sizes) <= batch_size or min(sizes) == 1  # more processes than frames a batch


@settings(deadline=None)
@given(st.lists(st.integers(1, 60), min_size=4, max_size=40), st.integers(1, 4), seeds)
def test_each_utterance_is_in_one_batch_of_one_process(sizes, world, seed):
    taken = [list(utterance_batches(sizes, seed=seed, rank=rank, world=world)) for rank in range(world)]
    assert sorted(u for batches in taken for b in batches for u in b.tolist()) == list(range(len(sizes)))
    assert len({len(batches) for batches in taken}) == 1
    too_long = [
        b for batches in taken for b in batches if len(b) > 1 and max(sizes[u] for u in b.tolist()) * len(b) > 40
    ]
    assert len(too_long) < world  # only where there are too few utterances to give each process as many batches


def test_buckets_waste_little_padding():
    sizes = torch.randint(139, 998, (400,), generator=torch.Generator().manual_seed(0)).tolist()
    loader = UtteranceBatches(torch.arange(400), torch.tensor(sizes), 16_000, seed=0)
    padded = sum(max(sizes[u] for u in batch) * len(batch) for batch in loader)
    assert sum(sizes) / padded > 0.9


@settings(deadline=None)
@given(st.lists(st.integers(1, 60), min_size=4, max_size=40), st.integers(1, 4), st.integers(0, 5))
def test_every_epoch_has_the_same_number_of_utterance_batches_and_no_fuller_ones(sizes, world, seed):
    """The trainer counts them once: a batch more would be left out."""
    loader = utterance_batches(sizes, seed=seed, world=world)
    expected = len(loader)
    for epoch in range(4):
        loader.set_epoch(epoch)
        batches = list(loader)
        assert len(batches) == len(loader) == expected
        if world == 1:
            assert all(len(b) == 1 or max(sizes[u] for u in b.tolist()) * len(b) <= 40 for b in batches)


def test_order_depends_on_the_epoch_and_on_the_seed_only():
    def order(seed: int, epoch: int) -> torch.Tensor:
        loader = IndexBatches(torch.arange(50), 8, seed=seed)
        loader.set_epoch(epoch)
        return torch.cat(list(loader))

    assert torch.equal(order(3, 2), order(3, 2))
    assert not torch.equal(order(3, 2), order(3, 1))
    assert not torch.equal(order(3, 2), order(4, 2))


@pytest.mark.parametrize(
    "make",
    [
        lambda: IndexBatches(torch.arange(100), 8, seed=1),
        lambda: utterance_batches([7, 9, 30, 11, 24, 8] * 4, seed=1),
    ],
)
def test_resumes_in_the_middle_of_an_epoch(make):
    whole, first = make(), make()
    for loader in (whole, first):
        loader.set_epoch(5)
    expected = list(whole)
    batches = iter(first)
    taken = [next(batches) for _ in range(4)]
    second = make()
    second.load_state_dict(first.state_dict())
    second.set_epoch(5)
    for got, want in zip(taken + list(second), expected, strict=True):
        assert torch.equal(got, want)
    second.set_epoch(6)
    assert len(list(second)) == len(second)


def test_a_new_epoch_forgets_where_the_old_one_stopped():
    loader = IndexBatches(torch.arange(100), 10, seed=0)
    loader.load_state_dict({"epoch": 0, "handed_out": 10, "batches": 10})
    loader.set_epoch(1)
    assert len(list(loader)) == 10


def test_a_position_in_other_batches_is_refused():
    state = {"epoch": 0, "handed_out": 4, "batches": 10}
    for other in (
        IndexBatches(torch.arange(100), 20, seed=0),
        IndexBatches(torch.arange(100), 10, seed=0, world=2),
    ):
        with pytest.raises(InputError, match=r"10 batches an epoch, as in the checkpoint[\s\S]*got 5[\s\S]*batch_size"):
            other.load_state_dict(state)
        other.load_state_dict(state | {"handed_out": 10})  # at the end of an epoch the next one is cut anew


def test_too_few_frames_for_the_processes():
    with pytest.raises(
        InputError, match=r"at least 3 frames or utterances, one a process, got 2[\s\S]*trainer.devices"
    ):
        IndexBatches(torch.arange(2), 8, world=3)
    with pytest.raises(InputError, match=r"at least 3 utterances, one a process, got 2"):
        utterance_batches([5, 5], world=3)


def test_batch_size_must_be_positive():
    with pytest.raises(InputError, match=r"at least 1 a batch, got 0[\s\S]*data.batch_size"):
        IndexBatches(torch.arange(9), 0)
    with pytest.raises(InputError, match=r"at least 1 frame a batch, got 0[\s\S]*data.batch_frames"):
        UtteranceBatches(torch.arange(2), torch.tensor([3, 4]), 0)
