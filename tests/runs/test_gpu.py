"""What a CPU cannot show: the same numbers on a GPU, and a host that does not wait for it."""

import pytest
import torch

from phoneme.augment import Augment
from phoneme.columns import COURSE
from phoneme.config import shipped
from phoneme.corpora import open_corpus
from phoneme.datamodule import PhonemeData
from phoneme.losses import IGNORE
from phoneme.models.recurrent import CELLS, read
from phoneme.splits import split_ids
from phoneme.store import open_store
from tests.helpers import TINY_SEQUENCE, train_in

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
CUDA = torch.device("cuda")


@pytest.mark.parametrize("cell", CELLS)
def test_autocast_to_bfloat16_does_not_become_float16(cell):
    reader = CELLS[cell](5, 6, batch_first=True).to(CUDA)
    frames = torch.randn(3, 7, 5, device=CUDA)
    with torch.autocast("cuda", torch.bfloat16):
        answer = read(reader, frames.bfloat16())
    assert answer.dtype == torch.float32
    torch.testing.assert_close(answer, reader(frames.bfloat16().float())[0], atol=1e-3, rtol=1e-2)  # TF32


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("name", ["gru", "lstm", "tcn", "conformer"])
def test_a_training_is_that_on_the_cpu_but_for_rounding(name, precision, tmp_path):
    """With averages; without what draws from the device's own generator."""
    small = (
        f"model={name}",
        "model.dropout=0",
        "model.front_depth=1",
        "trainer.max_epochs=1",
        "callbacks/averaging=ema",
    )
    one = train_in(tmp_path / "cpu", *TINY_SEQUENCE, *small, "trainer.accelerator=cpu", tiny=False)
    other = train_in(
        tmp_path / "gpu",
        *TINY_SEQUENCE,
        *small,
        "trainer.accelerator=gpu",
        f"trainer.precision={precision}",
        tiny=False,
    )
    assert other["val_loss"] == pytest.approx(one["val_loss"], rel=0.03)


def test_gathering_and_augmenting_utterances_never_waits():
    store = open_store(open_corpus("libriphone", shipped("data/sample"), features=COURSE), "train")
    split = split_ids(store.ids, store.speakers, by="utterance", val_fraction=0.2, seed=0)
    data = PhonemeData(store, split, unit="utterance", batch_frames=4000)
    data.place(CUDA)
    augment = Augment(
        columns_of=COURSE.columns_of(39).to(CUDA),
        window=None,
        ignore=IGNORE,
        time_masks=2,
        time_frames=15,
        time_share=0.1,
        frequency_masks=1,
        frequency_width=3,
        noise=0.1,
        speed=0.1,
    )
    generator = torch.Generator(CUDA).manual_seed(0)
    batches = iter(data.batches(split.train, 1, seed=0))
    augment(data.gather(next(batches)), generator)
    torch.cuda.set_sync_debug_mode("error")
    try:
        batch = augment(data.gather(next(batches)), generator)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert batch.inputs.is_cuda and bool(batch.inputs.isfinite().all())
