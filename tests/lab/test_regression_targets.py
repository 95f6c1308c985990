"""F3, and a case where it is false."""

import torch

from phoneme.lab import perform
from phoneme.lab.experiments.regression_targets import EXPERIMENT, ClassNumber, by_likeness, squared_distance
from phoneme.lab.speech import Frames
from tests.lab.helpers import small_bench, verdicts


def test_the_answer_is_the_nearest_number():
    class Says(torch.nn.Module):
        def forward(self, windows):
            return windows[:, 0, :1]

    model = ClassNumber(Says(), classes=5)
    logits = model(torch.tensor([[[-2.0]], [[0.4]], [[0.6]]]))
    assert logits.argmax(1).tolist() == [0, 2, 3]
    assert abs(squared_distance(logits, torch.tensor([0, 2, 4])).item() - (0 + 0.16 + 1.96) / 3) < 1e-6


def test_like_classes_get_near_numbers():
    frames = Frames(torch.tensor([0.0, 5.0, 1.0, 4.0])[:, None, None].expand(4, 3, 2), torch.tensor([0, 1, 2, 3]))
    numbers = by_likeness(frames, classes=4).tolist()
    assert numbers in ([0, 3, 1, 2], [3, 0, 2, 1])  # the sign of a component is free


def test_it_is_measured():
    answer = perform(EXPERIMENT, small_bench(), steps=150)
    assert answer["rows"]["F3"]["verdict"] != "does not hold"
    assert len(answer["numbers"]["validation_accuracy"]["any"]) == 3


def test_to_cross_entropy_the_order_is_nothing():
    assert verdicts(EXPERIMENT, small_bench(), steps=100, as_numbers=False)["F3"] in ("holds partly", "undecided")
