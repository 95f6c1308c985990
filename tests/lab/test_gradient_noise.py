"""C2, on a network of ours and on the user's own, and with batches that are not drawn at random."""

from functools import partial

import torch

from phoneme.lab import Own, perform
from phoneme.lab.experiments.gradient_noise import EXPERIMENT, gradient, spread
from phoneme.losses import cross_entropy
from tests.lab.helpers import small_bench, verdicts

FEW = {"sizes": (4, 16, 64), "frames": 256, "steps": 60}
SMOOTHED = partial(cross_entropy, label_smoothing=0.1)


def test_the_error_is_that_of_the_single_gradients():
    bench = small_bench()
    model, frames = bench.model(0).eval(), bench.speech.train(64, 0)
    singles = torch.stack([gradient(model, cross_entropy, frames.at(torch.tensor([i]))) for i in range(64)])
    full = singles.mean(0)
    expected = (singles - full).square().sum(1).mean().sqrt() / full.norm()
    (error,), (cosine,) = spread(model, cross_entropy, frames, [1], seed=0)
    assert abs(error / expected.item() - 1) < 0.1  # 512 draws of the 64
    assert abs(cosine - torch.cosine_similarity(singles, full[None]).mean().item()) < 0.05


def test_it_is_measured():
    answer = perform(EXPERIMENT, small_bench(), **FEW)
    for ruling in answer["rows"]["C2"]["rulings"]:
        assert len(ruling["values"]) == 3 and None not in ruling["values"]
    trained = answer["numbers"]["trained"]["noise_scale"]
    assert all(0 < scale["low"] < scale["value"] for scale in trained)


def test_neighbouring_frames_are_not_drawn_at_random():
    assert verdicts(EXPERIMENT, small_bench(), shuffled=False, **FEW)["C2"] != "holds"


def test_untrained_the_noise_has_not_grown():
    answer = perform(EXPERIMENT, small_bench(), **{**FEW, "steps": 0})
    growth = answer["rows"]["C2"]["rulings"][-1]
    assert growth["values"] == [1.0, 1.0, 1.0] and growth["verdict"] == "does not hold"


def test_the_users_own_network_is_the_trained_one():
    bench = small_bench()
    own = bench.model(7).train()
    with_own = small_bench(checkpoint=Own("mine.ckpt", own, SMOOTHED, lambda side, frames, seed: []))
    answer = perform(EXPERIMENT, with_own, **FEW)
    full = spread(own.eval(), SMOOTHED, bench.speech.train(256, 0), FEW["sizes"], seed=0)[0]
    assert answer["numbers"]["trained"]["relative_error"][0] == full and answer["checkpoint"] == "mine.ckpt"
    assert answer["rows"]["C2"]["rulings"][0]["values"] != answer["rows"]["C2"]["rulings"][1]["values"]
