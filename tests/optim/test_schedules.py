from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from phoneme.errors import InputError
from phoneme.optim import make_schedule, make_warmup
from phoneme.optim.schedules import SCHEDULES, WARMUPS

OPTIONS = {
    "constant": {},
    "step": {"every": 0.14, "gamma": 0.5},
    "cosine": {"final": 0.1},
    "linear": {"final": 0.25},
}
names = st.sampled_from(list(SCHEDULES))


def torch_factors(make_scheduler, steps: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    scheduler = make_scheduler(optimizer)
    factors = []
    for _ in range(steps):
        factors.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return factors


@pytest.mark.parametrize(
    ("name", "make_scheduler"),
    [
        ("step", lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 7, gamma=0.5)),
        ("cosine", lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 50, eta_min=0.1)),
        (
            "linear",
            lambda optimizer: torch.optim.lr_scheduler.LinearLR(
                optimizer, start_factor=1.0, end_factor=0.25, total_iters=50
            ),
        ),
    ],
)
def test_is_what_torch_computes_step_by_step(name, make_scheduler):
    factor = make_schedule(name=name, total_steps=50, **OPTIONS[name])
    assert [factor(step) for step in range(51)] == pytest.approx(torch_factors(make_scheduler, 51), rel=1e-12)


@pytest.mark.parametrize("warmup_steps", [0, 1, 30])
@pytest.mark.parametrize(("name", "end"), [("constant", 1.0), ("step", 0.0), ("cosine", 0.1), ("linear", 0.25)])
def test_end_points_are_exact(name, end, warmup_steps):
    factor = make_schedule(name=name, total_steps=100, warmup_steps=warmup_steps, **OPTIONS[name])
    if name == "step":
        steps = 100 - warmup_steps
        end = 0.5 ** (steps // round(0.14 * steps))
    assert factor(warmup_steps) == 1.0
    assert factor(100) == factor(101) == factor(10**9) == end


def test_defaults_end_at_zero():
    for name in ("cosine", "linear"):
        assert make_schedule(name=name, total_steps=10)(10) == 0.0


@given(names, st.integers(1, 200), st.integers(0, 100))
def test_waits_for_the_warmup_and_never_rises(name, shape_steps, warmup_steps):
    total_steps = warmup_steps + shape_steps
    factor = make_schedule(name=name, total_steps=total_steps, warmup_steps=warmup_steps, **OPTIONS[name])
    factors = [factor(step) for step in range(total_steps + 3)]
    assert factors[: warmup_steps + 1] == [1.0] * (warmup_steps + 1)
    assert all(later <= earlier for earlier, later in pairwise(factors))
    assert all(0.0 < value <= 1.0 for value in factors)


@given(names, st.integers(1, 100), st.integers(0, 50), st.integers(0, 200))
def test_warmup_only_shifts_the_shape(name, shape_steps, warmup_steps, step):
    plain = make_schedule(name=name, total_steps=shape_steps, **OPTIONS[name])
    warmed = make_schedule(
        name=name, total_steps=shape_steps + warmup_steps, warmup_steps=warmup_steps, **OPTIONS[name]
    )
    assert warmed(warmup_steps + step) == plain(step)


@pytest.mark.parametrize("warmup_steps", [4, 10])
def test_a_warmup_as_long_as_the_training_or_longer_leaves_no_shape(warmup_steps):
    factor = make_schedule(name="cosine", total_steps=4, warmup_steps=warmup_steps)
    assert [factor(step) for step in range(4)] == [1.0] * 4


def test_a_training_without_an_end_can_only_stay():
    factor = make_schedule(name="constant", total_steps=float("inf"), warmup_steps=2)
    assert [factor(step) for step in (0, 1, 2, 10**9)] == [1.0] * 4


# -- warm-up -----------------------------------------------------------------------------------------------


@given(st.sampled_from(list(WARMUPS)), st.integers(1, 500))
def test_a_warmup_rises_from_above_0_to_exactly_1(shape, steps):
    factor = make_warmup(steps=steps, shape=shape)
    factors = [factor(step) for step in range(steps + 2)]
    assert all(value > 0.0 for value in factors)
    assert all(earlier < later for earlier, later in pairwise(factors[:steps]))
    assert factors[steps - 1 :] == [1.0] * 3
    assert WARMUPS[shape](steps - 1, steps) == 1.0


def test_the_shapes_by_hand():
    factors = {shape: [make_warmup(steps=5, shape=shape)(step) for step in range(5)] for shape in WARMUPS}
    assert factors["linear"] == [1 / 5, 2 / 5, 3 / 5, 4 / 5, 1.0]
    assert factors["cosine"] == pytest.approx([0.0954915, 0.3454915, 0.6545085, 0.9045085, 1.0], rel=1e-6)
    ratios = [later / earlier for earlier, later in pairwise(factors["exponential"])]
    assert factors["exponential"][0] == pytest.approx(1 / 5) and ratios == pytest.approx([5 ** (1 / 4)] * 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, r"(?s)at least one update, got 0.*the steps of the warm-up"),
        ({"steps": -3}, r"at least one update, got -3"),
        ({"steps": True}, r"at least one update, got True"),
        ({"steps": 5, "shape": "cosin"}, r"(?s)shape of a warm-up, got cosin.*schedule\.warmup_shape.*mean cosine\?"),
    ],
)
def test_warmups_that_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        make_warmup(**arguments)


def test_survives_a_weights_only_checkpoint_inside_torchs_scheduler(tmp_path):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, make_schedule(name="cosine", total_steps=9))
    torch.save(scheduler.state_dict(), tmp_path / "scheduler.pt")
    scheduler.load_state_dict(torch.load(tmp_path / "scheduler.pt", weights_only=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "cosin"}, r"(?s)a known schedule, got cosin.*schedule\.name.*did you mean cosine\?"),
        ({"name": "step"}, r"(?s)a number, got nothing.*schedule\.every.*step has no default"),
        ({"name": "step", "every": 0}, r"(?s)share of the training in \(0, 1\], got 0.*schedule\.every"),
        ({"name": "step", "every": 0.5, "gamma": 0.0}, r"(?s)\(0, 1\], got 0\.0.*schedule\.gamma"),
        ({"gamma": 0.5}, r"(?s)option of cosine, got gamma.*schedule\.gamma.*here: final"),
        (
            {"name": "constant", "final": 0.5},
            r"(?s)option of constant, got final.*schedule\.final.*here: nothing",
        ),
        ({"final": 1.5}, r"(?s)\[0, 1\], got 1\.5.*schedule\.final.*hint:"),
        ({"total_steps": 0}, r"(?s)at least one step, got 0.*schedule\.total_steps"),
        ({"total_steps": float("inf")}, r"(?s)training whose length is known.*schedule\.name.*max_epochs"),
        ({"warmup_steps": -1}, r"(?s)0 steps or more, got -1.*schedule\.warmup_steps"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(InputError, match=message):
        make_schedule(**{"name": "cosine", "total_steps": 10, **arguments})
