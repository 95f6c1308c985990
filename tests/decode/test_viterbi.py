"""Exact: every label sequence of tiny problems, a plain loop in float64 on larger ones."""

import itertools
import math

import pytest
import torch

from phoneme.decode import Chain, viterbi
from tests.decode.examples import offsets_of, random_chain


def score(path: list[int], scores: torch.Tensor, chain: Chain) -> float:
    """The score of a label sequence by its definition, run by run: there are no states in here."""
    runs = [(phone, len(list(run))) for phone, run in itertools.groupby(path)]
    if any(length < chain.minimum for _, length in runs[:-1]):
        return -math.inf
    total = float(chain.first[path[0]]) + sum(float(scores[t, c]) for t, c in enumerate(path))
    total += sum(float(chain.stay[phone]) * max(length - chain.minimum, 0) for phone, length in runs)
    return total + sum(float(chain.move[one, other]) for (one, _), (other, _) in itertools.pairwise(runs))


def best_of_all(scores: torch.Tensor, chain: Chain) -> float:
    frames, classes = scores.shape
    return max(score(list(path), scores, chain) for path in itertools.product(range(classes), repeat=frames))


def best_by_a_loop(scores: torch.Tensor, chain: Chain) -> float:
    """Dynamic programming over (class, frames so far up to the minimum), one number at a time."""
    classes, last = scores.shape[1], chain.minimum - 1
    first, stay, move, rows = (part.tolist() for part in (chain.first, chain.stay, chain.move, scores))
    best = {(c, k): first[c] + rows[0][c] if k == 0 else -math.inf for c in range(classes) for k in range(last + 1)}
    for row in rows[1:]:
        new = {}
        for c, k in best:
            ways = [max(best[b, last] + move[b][c] for b in range(classes))] if k == 0 else [best[c, k - 1]]
            if k == last:
                ways.append(best[c, last] + stay[c])
            new[c, k] = max(ways) + row[c]
        best = new
    return max(best.values())


@pytest.mark.parametrize("minimum", [1, 2, 3])
@pytest.mark.parametrize("frames", [1, 2, 3, 5, 7])
def test_equals_the_best_of_all_label_sequences(frames, minimum):
    for seed in range(5):
        scores = torch.randn(frames, 3, generator=torch.Generator().manual_seed(seed))
        chain = random_chain(3, minimum, seed)
        path = viterbi(scores, offsets_of([frames]), chain).tolist()
        assert score(path, scores, chain) == pytest.approx(best_of_all(scores, chain), abs=1e-5)
        assert best_by_a_loop(scores, chain) == pytest.approx(best_of_all(scores, chain), abs=1e-5)


@pytest.mark.parametrize("minimum", [1, 2, 5])
def test_equals_a_loop_on_utterances_of_all_lengths(minimum, monkeypatch):
    monkeypatch.setattr("phoneme.decode.chain.BATCH_FRAMES", 200)  # several utterances a batch, several batches
    lengths = [40, 1, 7, 33, 2, 90, 12, 12, 57, 3]
    offsets, chain = offsets_of(lengths), random_chain(7, minimum)
    scores = 2 * torch.randn(sum(lengths), 7, generator=torch.Generator().manual_seed(1))
    path = viterbi(scores, offsets, chain)
    for start, end in itertools.pairwise(offsets.tolist()):
        got = score(path[start:end].tolist(), scores[start:end], chain)
        assert got == pytest.approx(best_by_a_loop(scores[start:end], chain), abs=1e-4)


def test_an_utterance_is_decoded_alike_alone_and_in_company():
    lengths = [5, 30, 17, 1, 30]
    offsets, chain = offsets_of(lengths), random_chain(6, 2)
    scores = torch.randn(sum(lengths), 6, generator=torch.Generator().manual_seed(2))
    alone = [viterbi(part, offsets_of([len(part)]), chain) for part in scores.split(lengths)]
    assert torch.equal(viterbi(scores, offsets, chain), torch.cat(alone))


def test_ten_thousand_frames_lose_no_digits():
    """Sums that were not kept near 0 would reach 5e4, where float32 counts in steps of 4e-3."""
    scores = torch.randn(10_000, 3, generator=torch.Generator().manual_seed(3)) - 5
    chain = random_chain(3, 2)
    path = viterbi(scores, offsets_of([10_000]), chain).tolist()
    assert score(path, scores, chain) == pytest.approx(best_by_a_loop(scores, chain), abs=1e-3)


def test_a_phone_lasts_its_minimum_but_for_the_last():
    chain = Chain(torch.zeros(3), torch.zeros(3), torch.zeros(3, 3).fill_diagonal_(-torch.inf), minimum=4)
    scores = torch.randn(301, 3, generator=torch.Generator().manual_seed(4))
    runs = [len(list(run)) for _, run in itertools.groupby(viterbi(scores, offsets_of([301]), chain).tolist())]
    assert min(runs[:-1]) >= 4 and len(runs) > 10


def test_no_frames_and_utterances_without_frames():
    chain = random_chain(3, 2)
    assert viterbi(torch.empty(0, 3), torch.tensor([0]), chain).shape == (0,)
    assert viterbi(torch.empty(0, 3), torch.tensor([0, 0]), chain).shape == (0,)
    scores = torch.randn(4, 3, generator=torch.Generator().manual_seed(5))
    with_gap = viterbi(scores, torch.tensor([0, 0, 3, 3, 4]), chain)
    assert torch.equal(with_gap, viterbi(scores, torch.tensor([0, 3, 4]), chain))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_same_on_cuda():
    lengths = [50, 1, 200, 120]
    offsets, chain = offsets_of(lengths), random_chain(41, 3)
    scores = 2 * torch.randn(sum(lengths), 41, generator=torch.Generator().manual_seed(6))
    there = viterbi(scores.cuda(), offsets, chain)
    assert there.is_cuda and torch.equal(there.cpu(), viterbi(scores, offsets, chain))
