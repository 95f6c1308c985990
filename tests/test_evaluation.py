"""Log-posteriors of every frame, for both units."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from phoneme.evaluation import log_posteriors, predict
from phoneme.models import Mlp, Recurrent
from phoneme.phones import unnamed
from phoneme.store import FrameStore

LENGTHS = torch.tensor([5, 1, 9, 3])
CPU = torch.device("cpu")


class Smoother(nn.Module):
    """A sequence model for tests: the mean of an utterance's frames is added to each of them."""

    unit = "utterance"

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 4)

    def forward(self, inputs, lengths):
        mean = inputs.sum(1) / lengths[:, None]
        return self.linear(inputs + mean[:, None])


@pytest.fixture
def store() -> FrameStore:
    frames = torch.randn(int(LENGTHS.sum()), 6, generator=torch.Generator().manual_seed(0))
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), LENGTHS.cumsum(0)])
    return FrameStore(frames, None, offsets, ("a", "b", "c", "d"), (None,) * 4, unnamed(4))


@pytest.fixture(params=["frame", "utterance"])
def model(request) -> nn.Module:
    torch.manual_seed(0)
    if request.param == "utterance":
        return Smoother()
    return Mlp(coeffs=6, classes=4, context=3, depth=1, width=8, dropout=0.5)


@pytest.mark.parametrize("batch_size", [3, 1000])
def test_rows_are_distributions_in_the_order_of_the_store(model, store, batch_size):
    answer = log_posteriors(model, store, CPU, batch_size)
    assert answer.shape == (18, 4) and answer.dtype == torch.float32
    assert answer.logsumexp(1).abs().max() < 1e-5
    assert torch.allclose(answer, log_posteriors(model, store, CPU), atol=1e-6)


def test_utterances_come_in_the_order_asked_for(model, store):
    whole = log_posteriors(model, store, CPU).split(LENGTHS.tolist())
    some = log_posteriors(model, store, CPU, batch_size=4, ids=("d", "a"))
    assert torch.allclose(some, torch.cat([whole[3], whole[0]]), atol=1e-6)


def test_a_sequence_model_sees_whole_utterances(store):
    model, start = Smoother(), int(store.offsets[2])
    alone = model(store.frames[None, start : start + 9], torch.tensor([9]))[0].log_softmax(1)
    assert torch.allclose(log_posteriors(model, store, CPU, ids=("c",)), alone, atol=1e-6)


def test_a_model_that_reads_the_padding_is_asked_in_the_batches_it_was_validated_in(store):
    """Two utterances of any length at once: the answer is that of those batches, and not of utterances alike."""
    model = Recurrent(coeffs=6, classes=4, width=5, depth=1, masked=False)
    together = log_posteriors(model, store, CPU, ids=("a", "b", "c", "d"), batch_utterances=2).split(LENGTHS.tolist())
    for pair in ((0, 1), (2, 3)):
        parts = [store.frames[store.offsets[u] : store.offsets[u + 1]] for u in pair]
        batch = model(pad_sequence(parts, batch_first=True), LENGTHS[list(pair)]).log_softmax(-1)
        for place, u in enumerate(pair):
            assert torch.allclose(together[u], batch[place, : LENGTHS[u]], atol=1e-6)
    alone = log_posteriors(model, store, CPU, batch_size=1)
    assert not torch.allclose(torch.cat(together), alone, atol=1e-3)
    assert torch.equal(predict(model, store, CPU, batch_utterances=2).long(), torch.cat(together).argmax(1))


def test_the_prediction_is_the_largest(model, store):
    assert torch.equal(predict(model, store, CPU, 5).long(), log_posteriors(model, store, CPU, 5).argmax(1))
