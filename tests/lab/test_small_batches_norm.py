"""G3, and a case where it is false."""

from phoneme.lab import perform
from phoneme.lab.experiments.small_batches_norm import EXPERIMENT, refuses_one
from tests.lab.helpers import small_bench, verdicts


def test_batch_normalisation_alone_refuses_a_single_frame():
    bench = small_bench()
    frames = bench.speech.train(8, 0)
    assert [refuses_one(bench.model(0, norm=norm), frames) for norm in ("none", "layer", "batch", "batch_renorm")] == [
        False,
        False,
        True,
        True,
    ]


def test_it_is_measured():
    found = perform(EXPERIMENT, small_bench(), examples=512)
    rulings = {ruling["effect"]: ruling for ruling in found["rows"]["G3"]["rulings"]}
    assert rulings["one_frame"]["verdict"] == "holds"
    assert all(None not in ruling["values"] for ruling in rulings.values())


def test_a_norm_that_needs_no_batch_loses_nothing():
    assert verdicts(EXPERIMENT, small_bench(), examples=256, norm="layer") == {"G3": "holds partly"}
