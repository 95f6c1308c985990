"""What a batch of indices becomes: windows and whole utterances, the same on every device."""

import pytest
import torch
from torch import nn

from phoneme.config import shipped
from phoneme.corpora import open_corpus
from phoneme.datamodule import PhonemeData
from phoneme.errors import InputError
from phoneme.evaluation import evaluate, predict
from phoneme.losses import IGNORE, make_loss
from phoneme.models import Linear
from phoneme.splits import split_ids
from phoneme.store import open_store

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def store():
    return open_store(open_corpus("libriphone", shipped("data/sample")), "train", progress=False)


@pytest.fixture(scope="module")
def split(store):
    return split_ids(store.ids, store.speakers, val_fraction=0.2)


class FrameByFrame(nn.Module):
    """An utterance model whose answer for a frame depends on that frame only: easy to compute without padding."""

    unit = "utterance"

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(39, 41)

    def forward(self, features, lengths):
        assert features.shape[1] == lengths.max()
        return self.linear(features)


def test_frame_batches_carry_windows_labels_and_boundaries(store, split):
    data = PhonemeData(store, split, context=3)
    index = torch.tensor([0, 100, store.n_frames - 1])
    batch = data.gather(index)
    assert torch.equal(batch.inputs[1], store.frames[99:102])
    assert torch.equal(batch.inputs[0], store.frames[[0, 0, 1]])
    assert torch.equal(batch.targets, store.labels[index].long())
    assert torch.equal(batch.boundary, data.boundary[index])


def test_utterance_batches_hold_whole_utterances_and_mask_their_padding(store, split):
    data = PhonemeData(store, split, unit="utterance", batch_frames=8_000)
    seen = 0
    for rows in data.batches(split.val, 0):
        batch = data.gather(rows)
        for i, row in enumerate(rows.tolist()):
            span = slice(int(store.offsets[row]), int(store.offsets[row + 1]))
            n = span.stop - span.start
            assert torch.equal(batch.inputs[i, :n], store.frames[span]) and batch.lengths[i] == n
            assert torch.equal(batch.targets[i, :n], store.labels[span].long())
            assert (batch.targets[i, n:] == IGNORE).all() and not batch.boundary[i, n:].any()
            seen += 1
    assert seen == len(split.val)


def test_batches_of_so_many_utterances_have_any_length(store, split):
    data = PhonemeData(store, split, unit="utterance", batch_utterances=8, device="cpu")
    plan = list(data.batches(split.train, 1, seed=0))
    assert torch.equal(torch.cat(plan).sort().values, store.rows_of(split.train).sort().values)
    assert {len(rows) for rows in plan} <= {7, 8}
    filled = [float((data.gather(rows).targets != IGNORE).float().mean()) for rows in plan]
    similar = PhonemeData(store, split, unit="utterance", batch_frames=5000, device="cpu")
    alike = [float((similar.gather(rows).targets != IGNORE).float().mean()) for rows in similar.batches(split.train, 1)]
    assert sum(filled) / len(filled) < 0.9 < sum(alike) / len(alike)


def test_a_count_of_utterances_says_nothing_to_a_model_of_frames(store, split, caplog):
    PhonemeData(store, split, unit="frame", batch_utterances=8)
    assert "data.batch_utterances has no effect" in caplog.text


def test_evaluation_of_utterances_is_that_of_their_frames(store, split):
    model = FrameByFrame()
    data = PhonemeData(store, split, unit="utterance", batch_frames=4_000)
    found = evaluate(model, make_loss("cross_entropy"), data, data.batches(split.val, 2048), CPU)
    index = store.frame_indices(store.rows_of(split.val))
    logits, labels = model.linear(store.frames[index]), store.labels[index].long()
    assert found.metrics["accuracy"] == pytest.approx((logits.argmax(1) == labels).double().mean().item())
    assert found.metrics["loss"] == pytest.approx(nn.functional.cross_entropy(logits, labels).item(), rel=1e-5)
    assert found.confusion.sum() == len(index)


def test_prediction_of_utterances_keeps_the_order_of_the_frames(store):
    model = FrameByFrame()
    assert torch.equal(predict(model, store, CPU, batch_size=700).long(), model.linear(store.frames).argmax(1))


def test_frames_live_where_they_are_asked_to(store, split):
    with pytest.raises(InputError, match=r"expected auto or cpu, got gpu\n  where: data.device"):
        PhonemeData(store, split, device="gpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_gpu_gathers_the_same_batches(store, split):
    here, there = (PhonemeData(store, split, context=11) for _ in range(2))
    there.place(torch.device("cuda"))
    for a, b in zip(here.batches(split.train, 512, 0), there.batches(split.train, 512, 0), strict=True):
        assert b.is_cuda and torch.equal(a, b.cpu())
        for x, y in zip(here.gather(a), there.gather(b), strict=True):
            assert y.is_cuda and torch.equal(x, y.cpu())
    model = Linear(coeffs=39, classes=41, context=11)
    cpu = predict(model, store, CPU)
    assert (predict(model, store, torch.device("cuda")) == cpu).double().mean() > 0.999
