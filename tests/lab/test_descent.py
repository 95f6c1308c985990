"""The loop of all experiments."""

import torch

from phoneme.lab import Frames, descend, score
from phoneme.losses import cross_entropy
from tests.lab.helpers import small_bench


def run(bench, seed=0, **options):
    model = bench.model(0, dropout=0.2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    settings = {"steps": 12, "batch_size": 64, "seed": seed} | options
    return model, descend(model, bench.speech.train(300, 0), optimizer, **settings)


def test_a_seed_gives_the_run_again_and_leaves_the_random_state():
    bench = small_bench()
    before = torch.get_rng_state()
    (one, first), (other, second) = run(bench), run(bench)
    assert torch.equal(first.losses, second.losses) and torch.equal(one.output.weight, other.output.weight)
    assert not torch.equal(first.losses, run(bench, seed=1)[1].losses)
    assert torch.equal(before, torch.get_rng_state())


def test_it_is_plain_descent_on_all_frames():
    bench = small_bench()
    frames, model, by_hand = bench.speech.train(200, 0), bench.model(0), bench.model(0)
    found = descend(model, frames, torch.optim.SGD(model.parameters(), lr=0.5), steps=3, batch_size=None, seed=0)
    for step in range(3):
        loss = cross_entropy(by_hand(frames.inputs), frames.targets)
        assert found.losses[step] == loss.item()
        for parameter, slope in zip(
            by_hand.parameters(), torch.autograd.grad(loss, list(by_hand.parameters())), strict=True
        ):
            parameter.data -= 0.5 * slope
    torch.testing.assert_close(list(model.parameters()), list(by_hand.parameters()))


def test_each_epoch_sees_every_frame_once():
    seen = []

    class Looks(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(2))

        def forward(self, inputs):
            seen.extend(inputs[:, 0, 0].long().tolist())
            return inputs[:, 0] * self.weight

    frames = Frames(torch.arange(10.0)[:, None, None].expand(10, 1, 2), torch.zeros(10, dtype=torch.int64))
    model = Looks()
    descend(model, frames, torch.optim.SGD(model.parameters(), lr=0.0), steps=5, batch_size=4, seed=3)
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10)) and seen[:10] != seen[10:]


def test_a_schedule_is_a_factor_of_the_rate():
    bench = small_bench()
    model = bench.model(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    rates = []
    descend(
        model,
        bench.speech.train(100, 0),
        optimizer,
        steps=3,
        batch_size=10,
        seed=0,
        schedule=lambda step: 1 / (1 + step),
        watch=lambda step: rates.append(optimizer.param_groups[0]["lr"]),
    )
    assert rates == [0.2, 0.1, 0.2 / 3]


def test_a_loss_that_is_not_finite_is_seen():
    bench = small_bench()
    model = bench.model(0)
    frames = bench.speech.train(200, 0)
    wild = descend(model, frames, torch.optim.SGD(model.parameters(), lr=1e30), steps=20, batch_size=50, seed=0)
    assert wild.diverged and not run(bench)[1].diverged


def test_a_score_is_in_evaluation_mode_and_of_all_frames():
    bench = small_bench()
    model, frames = bench.model(0, dropout=0.9), bench.speech.train(9000, 0)
    model.train()
    found = score(model, frames)
    assert model.training
    model.eval()
    with torch.no_grad():
        outputs = model(frames.inputs)
    assert abs(found.loss - cross_entropy(outputs, frames.targets).item()) < 1e-5
    assert abs(found.accuracy - (outputs.argmax(1) == frames.targets).float().mean().item()) < 1e-6
