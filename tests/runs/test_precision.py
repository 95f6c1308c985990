"""Which precision a training gets on which device."""

import pytest
import torch

from phoneme.runs.precision import has_bfloat16, pick_precision
from tests.helpers import TINY_SEQUENCE, train_in


@pytest.fixture(params=[True, False], ids=["with", "without"])
def native(request, monkeypatch) -> bool:
    """A processor with bfloat16 instructions, and one without; no GPU."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: request.param)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    return request.param


@pytest.mark.parametrize("accelerator", ["auto", "cpu"])
def test_auto_takes_bfloat16_where_the_processor_has_it(native, accelerator):
    assert has_bfloat16(accelerator) == native
    assert pick_precision("auto", accelerator) == ("bf16-mixed" if native else "32-true")


def test_what_is_asked_for_is_given_with_a_word_where_it_is_slow(native, caplog):
    for name in ("bf16-mixed", "32-true", "16-mixed"):
        assert pick_precision(name, "cpu") == name
    assert caplog.text.count("no bfloat16 instructions") == (0 if native else 1)


def test_an_accelerator_of_which_nothing_is_known(native, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)  # an Apple processor's
    assert not has_bfloat16("mps") and not has_bfloat16("auto")


def test_the_summary_says_what_was_taken(native, tmp_path):
    short = ("model=tcn", "trainer.max_epochs=1", "trainer.limit_train_batches=1", "trainer.precision=auto")
    summary = train_in(tmp_path, *TINY_SEQUENCE, *short, tiny=False)
    assert summary["precision"] == ("bf16-mixed" if native else "32-true")
