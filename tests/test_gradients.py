import json
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from phoneme.errors import InputError
from phoneme.gradients import (
    cosine,
    flat_units,
    gradient_norms,
    gradients_of,
    noise_scale,
    noise_scale_of_batches,
    noise_scale_per_example,
    parameters_of,
    snapshot,
    step_between,
    update_ratios,
)
from phoneme.gradients.noise import student_quantile


@pytest.fixture
def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(20, 4), torch.randint(3, (20,))


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """Every read of the device by this package, which `.tolist()` and `.item()` are."""
    done = []
    for name in ("tolist", "item", "__float__", "__int__", "__bool__", "cpu", "numpy"):
        original = getattr(torch.Tensor, name)

        def spy(self, *args, _name=name, _original=original, **kwargs):
            done.append(_name)
            return _original(self, *args, **kwargs)

        monkeypatch.setattr(torch.Tensor, name, spy)
    return done


def state_of(model: nn.Module) -> tuple:
    """Everything that a watcher could disturb."""
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    grads = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    modes = [module.training for module in model.modules()]
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules())
    return tensors, grads, modes, hooks, torch.get_rng_state()


def assert_no_trace(model: nn.Module, before: tuple) -> None:
    after = state_of(model)
    assert all(torch.equal(before[0][name], tensor) for name, tensor in after[0].items())
    for old, new in zip(before[1], after[1], strict=True):
        assert (old is None) == (new is None) and (old is None or torch.equal(old, new))
    assert before[2:4] == after[2:4] and torch.equal(before[4], after[4])


# -- norms, ratios, angles -------------------------------------------------------------------------------------


def test_norms_are_those_of_clipping(model, batch):
    F.cross_entropy(model(batch[0]), batch[1]).backward()
    norms = gradient_norms(gradients_of(model))
    assert norms == gradient_norms(model)
    assert norms.total == pytest.approx(nn.utils.get_total_norm([p.grad for p in model.parameters()]).item(), rel=1e-6)
    assert norms.layers.keys() == {"0", "2"}
    flat = torch.cat([p.grad.flatten() for p in model[2].parameters()]).double()
    assert norms.layers["2"] == pytest.approx(flat.norm().item(), rel=1e-14)
    assert json.loads(json.dumps(norms.to_dict())) == norms.to_dict()


def test_a_large_float32_gradient_keeps_its_digits():
    gradient = torch.full((1_000_000,), 0.1)
    assert gradient_norms({"w": gradient}).total == pytest.approx(1e3 * gradient[0].item(), rel=1e-10)
    assert gradient_norms({"w": torch.full((4,), 1e-30)}).total == pytest.approx(2e-30, rel=1e-6)


def test_one_read_a_call(model, batch, reads):
    before = snapshot(parameters_of(model))
    F.cross_entropy(model(batch[0]), batch[1]).backward()
    gradients = gradients_of(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 0.1 * parameter.grad
    for call in (
        lambda: gradient_norms(gradients),
        lambda: update_ratios(before, parameters_of(model)),
        lambda: cosine(before, gradients),
        lambda: flat_units(model, batch[0]),
        lambda: noise_scale_of_batches(model, F.cross_entropy, [batch] * 16),
    ):
        reads.clear()
        call()
        assert reads == ["tolist"]


def test_a_parameter_without_gradient_counts_as_zero_and_a_frozen_one_not_at_all(model, batch):
    model.add_module("unused", nn.Linear(2, 2))
    model[0].bias.requires_grad_(False)
    F.cross_entropy(model[2](model[0](batch[0])), batch[1]).backward()
    gradients = gradients_of(model)
    assert gradient_norms(gradients).layers["unused"] == 0.0
    assert gradients.keys() == {"0.weight", "2.weight", "2.bias", "unused.weight", "unused.bias"}


def test_nan_goes_through():
    norms = gradient_norms({"a.w": torch.tensor([1.0, math.nan]), "b.w": torch.ones(4)})
    assert math.isnan(norms.total) and math.isnan(norms.layers["a"]) and norms.layers["b"] == 2.0


def test_the_update_ratio_of_plain_descent(model, batch):
    before = snapshot(parameters_of(model))
    F.cross_entropy(model(batch[0]), batch[1]).backward()
    gradients = snapshot(gradients_of(model))
    torch.optim.SGD(model.parameters(), lr=0.5).step()
    ratios = update_ratios(before, parameters_of(model))
    for layer, ratio in {"total": ratios.total, **ratios.layers}.items():
        chosen = [name for name in before if layer == "total" or name.startswith(f"{layer}.")]
        moved = sum(gradients[name].square().sum() for name in chosen).sqrt() * 0.5
        size = sum(before[name].square().sum() for name in chosen).sqrt()
        assert ratio == pytest.approx((moved / size).item(), rel=1e-5)
    step = step_between(before, parameters_of(model))
    assert cosine(step, gradients).total == pytest.approx(-1, abs=1e-6)


def test_a_layer_of_zeros():
    before = {"a.w": torch.zeros(2), "b.w": torch.zeros(2), "c.w": torch.ones(2)}
    after = {"a.w": torch.ones(2), "b.w": torch.zeros(2), "c.w": torch.ones(2)}
    layers = update_ratios(before, after).layers
    assert layers["a"] == math.inf and math.isnan(layers["b"]) and layers["c"] == 0.0
    assert math.isnan(cosine(before, after).layers["a"])


def test_cosine_by_hand():
    first = {"a.w": torch.tensor([1.0, 0.0]), "b.w": torch.tensor([3.0])}
    second = {"a.w": torch.tensor([0.0, 2.0]), "b.w": torch.tensor([-1.0])}
    answer = cosine(first, second)
    assert answer.layers == {"a": 0.0, "b": -1.0}
    assert answer.total == pytest.approx(-3 / math.sqrt(10 * 5))
    tiny = {name: tensor * 1e-25 for name, tensor in first.items()}
    assert cosine(first, tiny).total == pytest.approx(1)


def test_norm_errors(model):
    with pytest.raises(InputError, match=r"a model with gradients, got no .grad on any parameter"):
        gradients_of(model)
    with pytest.raises(InputError, match="got a model without trainable parameters"):
        gradients_of(model.requires_grad_(False))
    with pytest.raises(InputError, match="at least one gradient, got none"):
        gradient_norms({})
    with pytest.raises(InputError, match=r"the same parameters twice, got another b"):
        cosine({"a": torch.ones(2), "b": torch.ones(2)}, {"a": torch.ones(2), "b": torch.ones(3)})
    with pytest.raises(InputError, match=r"the same parameters twice, got another a"):
        update_ratios({"a": torch.ones(2)}, {})
    with pytest.raises(InputError, match=r"the same parameters twice, got none"):
        step_between({}, {})


# -- dead and saturated units ----------------------------------------------------------------------------------


def test_dead_units_and_sparse_ones():
    model = nn.Sequential(nn.Linear(1, 4), nn.ReLU())
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0], [-1.0], [0.0], [0.0]]))
        model[0].bias.copy_(torch.tensor([0.0, 0.0, -1.0, 1.0]))
    # units: on where x > 0, on where x < 0, dead, always on
    found = flat_units(model, torch.tensor([[-2.0], [-1.0], [1.0], [2.0]]))["1"]
    assert (found.activation, found.outputs, found.units) == ("ReLU", 0.5, 0.25)
    assert found.to_dict() == {"activation": "ReLU", "outputs": 0.5, "units": 0.25}


@pytest.mark.parametrize(("kind", "edge"), [(nn.Tanh, math.atanh(math.sqrt(0.99))), (nn.Sigmoid, 5.9865)])
def test_saturation_is_a_small_derivative(kind, edge):
    model = nn.Sequential(kind()).double()
    x = torch.tensor([[0.0, edge * 1.001], [edge * 0.999, -edge * 1.001]], dtype=torch.float64)
    x.requires_grad_()
    model(x).sum().backward()
    brute = x.grad < 0.01 * (1 if kind is nn.Tanh else 0.25)
    found = flat_units(model, x.detach())["0"]
    assert found.outputs == brute.double().mean().item() == 0.5
    assert found.units == 0.5


def test_units_of_other_shapes_and_uses():
    relu = nn.ReLU()
    model = nn.Sequential(nn.Conv1d(1, 2, 1), relu, nn.Conv1d(2, 3, 1), relu, nn.ReLU6(), nn.GELU())
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([1.0, -1.0])[:, None, None])
        model[0].bias.zero_()
        model[2].weight.zero_()
        model[2].bias.copy_(torch.tensor([-1.0, 7.0, 1.0]))
    found = flat_units(model, torch.ones(2, 1, 5), unit_axis=1)
    assert {name: round(f.units, 4) for name, f in found.items()} == {"1": 0.5, "1#2": 0.3333, "4": 0.6667}


def test_watching_units_leaves_no_trace():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(8, 2))
    model[3].eval()
    model(torch.randn(5, 4)).sum().backward()
    x = torch.randn(50, 4)
    before = state_of(model)
    assert flat_units(model, x).keys() == {"2"}
    assert_no_trace(model, before)

    class Fails(nn.Module):
        def forward(self, x):
            torch.rand(3)
            raise RuntimeError("on purpose")

    model.append(Fails())
    before = state_of(model)
    with pytest.raises(RuntimeError, match="on purpose"):
        flat_units(model, x)
    assert_no_trace(model, before)


def test_a_model_without_activations_has_no_entries_and_nan_is_not_alive():
    assert flat_units(nn.Linear(2, 2), torch.ones(3, 2)) == {}
    assert math.isnan(flat_units(nn.Sequential(nn.ReLU()), torch.full((3, 2), math.nan))["0"].units)


def test_several_inputs():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = nn.ReLU()

        def forward(self, a, b):
            return self.act(a - b)

    assert flat_units(Two(), (torch.zeros(2, 3), torch.ones(2, 3)))["act"].units == 1.0


def test_unit_errors(model):
    with pytest.raises(InputError, match="a probe batch, got no example"):
        flat_units(model, torch.zeros(0, 4))
    with pytest.raises(InputError, match=r"a share in \(0, 1\), got 0.0\n  where: small"):
        flat_units(model, torch.zeros(2, 4), small=0.0)


# -- gradient noise scale --------------------------------------------------------------------------------------

WIDTH, DISTANCE, NOISE = 12, 0.6, 1.0  # inputs, |w - w*|, standard deviation of the targets' noise
# Linear regression at w, x ~ N(0, 1), d = w - w*: a single gradient is 2 x (x.d - noise), so that G = 2 d, and
# E|g|^2 = 4 E[|x|^2 ((x.d)^2 + noise^2)] = 4 ((WIDTH + 2) |d|^2 + WIDTH noise^2) by Isserlis.
SQUARE = 4 * DISTANCE**2
TRACE = 4 * ((WIDTH + 2) * DISTANCE**2 + WIDTH * NOISE**2) - SQUARE


def regression(n: int, seed: int) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, WIDTH, generator=generator, dtype=torch.float64)
    y = NOISE * torch.randn(n, 1, generator=generator, dtype=torch.float64)
    model = nn.Linear(WIDTH, 1, bias=False, dtype=torch.float64)  # w* = 0
    with torch.no_grad():
        model.weight.fill_(DISTANCE / math.sqrt(WIDTH))
    return model, x, y


def squares(seeds: int, repeats: int, small: int, parts: int) -> tuple[torch.Tensor, torch.Tensor]:
    """|gradient|^2 of `small` examples (mean over the parts) and of all parts together, `[seed, repeat]`."""
    model, x, y = regression(seeds * repeats * parts * small, seed=1)
    single = 2 * x * (x @ model.weight.detach().T - y)
    batches = single.view(seeds, repeats, parts, small, WIDTH).mean(dim=3)
    return batches.square().sum(dim=-1).mean(dim=-1), batches.mean(dim=2).square().sum(dim=-1)


def test_both_estimators_are_unbiased():
    small, big = squares(seeds=1, repeats=20_000, small=4, parts=4)
    answer = noise_scale(small[0].tolist(), big[0].tolist(), small=4, big=16)
    assert answer.gradient_square == pytest.approx(SQUARE, rel=0.02)
    assert answer.trace == pytest.approx(TRACE, rel=0.02)
    assert answer.value == pytest.approx(TRACE / SQUARE, rel=0.03)
    assert answer.low < TRACE / SQUARE < answer.high < 1.1 * answer.low
    assert answer.repeats == 20_000


@pytest.mark.parametrize(("repeats", "small"), [(8, 64), (20, 8), (20, 32)])
def test_the_interval_covers_as_often_as_it_says(repeats, small):
    """600 measurements: 0.95 comes out within three standard errors of 0.009, and a per cent for skewed squares."""
    pairs = zip(*squares(seeds=600, repeats=repeats, small=small, parts=4), strict=True)
    answers = [noise_scale(s.tolist(), b.tolist(), small=small, big=4 * small) for s, b in pairs]
    covered = sum(a.low <= TRACE / SQUARE <= a.high for a in answers) / len(answers)
    assert 0.913 <= covered <= 0.98
    assert all(a.low <= a.value <= a.high for a in answers)


def test_per_example_intervals_cover_too():
    covered, answers = 0, 200
    for seed in range(answers):
        model, x, y = regression(200, seed)
        answer = noise_scale_per_example(model, F.mse_loss, x, y, chunk=200)
        covered += answer.low <= TRACE / SQUARE <= answer.high
    assert 0.88 <= covered / answers <= 0.995


def test_without_signal_there_is_only_a_lower_bound():
    """Pure noise: |G|^2 is 0, and the noise scale infinite."""
    generator = torch.Generator().manual_seed(0)
    parts = torch.randn(20, 4, 50, generator=generator)
    small, big = parts.square().sum(-1).mean(1), parts.mean(1).square().sum(-1)
    answer = noise_scale(small.tolist(), big.tolist(), small=8, big=32)
    assert answer.high == math.inf and answer.low > 0
    written = json.loads(json.dumps(answer.to_dict(), allow_nan=False))
    assert written["high"] is None and written["low"] == answer.low


def test_neither_signal_nor_noise_bounds_nothing():
    answer = noise_scale([1.0, -1.0, 1.0, -1.0], [1.0, 1.0, -1.0, -1.0], small=1, big=2)
    assert (answer.value, answer.low, answer.high) == (math.inf, 0.0, math.inf)


@pytest.mark.parametrize("chunk", [3, 20, 64])
def test_per_example_by_brute_force(model, batch, chunk):
    model, x, y = model.double(), batch[0].double(), batch[1]
    rows = []
    for i in range(20):
        loss = F.cross_entropy(model(x[i : i + 1]), y[i : i + 1])
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]))
    gradients = torch.stack(rows)

    def estimates(g: torch.Tensor) -> tuple[float, float]:
        trace = g.var(dim=0).sum()
        return (g.mean(dim=0).square().sum() - trace / len(g)).item(), trace.item()

    answer = noise_scale_per_example(model, F.cross_entropy, x, y, chunk=chunk)
    assert (answer.gradient_square, answer.trace) == pytest.approx(estimates(gradients), rel=1e-10)
    without = torch.tensor([estimates(torch.cat([gradients[:i], gradients[i + 1 :]])) for i in range(20)]).double()
    # Fieller's equation holds at both ends, with the jackknife's covariance
    covariance = (19 / 20) * 19 * torch.cov(without.T)
    for end in (answer.low, answer.high):
        if 0 < end < math.inf:
            contrast = torch.tensor([-end, 1.0], dtype=torch.float64)
            distance = answer.trace - end * answer.gradient_square
            quantile = distance**2 / (contrast @ covariance @ contrast).item()
            assert quantile == pytest.approx(student_quantile(0.975, 19) ** 2, rel=1e-3)
    assert answer.low > 0


def test_two_batch_sizes_are_per_example_when_the_small_one_is_one(batch):
    """Twenty batches of one, in one big batch a repeat of four: the trace is the mean of the sample variances."""
    model, x, y = regression(64, seed=3)
    answer = noise_scale_of_batches(model, F.mse_loss, [(x[i : i + 1], y[i : i + 1]) for i in range(64)], parts=16)
    single = 2 * x * (x @ model.weight.detach().T - y)
    assert answer.trace == pytest.approx(single.view(4, 16, WIDTH).var(dim=1).sum(dim=1).mean().item(), rel=1e-12)
    assert answer.repeats == 4


def test_batchnorm_in_training_mode_leaves_no_trace():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.1), nn.ReLU(), nn.Linear(8, 2))
    model[4].bias.requires_grad_(False)
    model(torch.randn(5, 4)).sum().backward()
    before = state_of(model)
    batches = [(torch.randn(6, 4), torch.randint(2, (6,))) for _ in range(16)]
    torch.set_rng_state(before[4])
    with torch.no_grad():  # as callbacks are called
        answer = noise_scale_of_batches(model, F.cross_entropy, batches)
    assert_no_trace(model, before)
    assert answer.trace > 0 and answer.repeats == 4

    model.eval()
    before = state_of(model)
    noise_scale_per_example(model, F.cross_entropy, *batches[0])
    assert_no_trace(model, before)


def test_batchnorm_uses_the_statistics_of_each_batch():
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 1)).double()
    x = torch.randn(16, 10, 3, dtype=torch.float64)
    answer = noise_scale_of_batches(model, F.mse_loss, [(b, b[:, :1]) for b in x])
    rows = []
    for b in x:
        gradients = torch.autograd.grad(F.mse_loss(model(b), b[:, :1]), list(model.parameters()))
        rows.append(torch.cat([g.flatten() for g in gradients]))
    trace = 10 * torch.stack(rows).view(4, 4, -1).var(dim=1).sum(dim=1).mean().item()
    assert answer.trace == pytest.approx(trace, rel=1e-10)


@pytest.mark.parametrize("freedom", [3, 7, 19, 100])
def test_student_quantiles(freedom):
    """The share of t beyond the quantile, by the trapezoid rule on its density."""
    quantile = student_quantile(0.975, freedom)
    t = torch.linspace(0, quantile, 100_001, dtype=torch.float64)
    constant = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - math.log(freedom * math.pi) / 2
    density = torch.exp(constant - (freedom + 1) / 2 * torch.log1p(t * t / freedom))
    assert 0.5 + torch.trapezoid(density, t).item() == pytest.approx(0.975, abs=1e-4)


# -- errors ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("squared", "options", "message"),
    [
        (([1.0] * 3, [1.0] * 3), {}, "at least 4 repeats of both batch sizes, got 3 and 3"),
        (([1.0] * 5, [1.0] * 4), {}, "got 5 and 4"),
        (([1.0] * 4, [1.0] * 4), {"big": 2}, "0 < small < big, got small=2, big=2"),
        (([1.0] * 4, [1.0] * 4), {"confidence": 1.0}, r"a probability in \(0, 1\), got 1.0"),
        (([1.0] * 4, [1.0, 1.0, 1.0, math.nan]), {}, "finite gradients, got NaN or infinity"),
    ],
)
def test_noise_scale_errors(squared, options, message):
    with pytest.raises(InputError, match=message):
        noise_scale(*squared, **{"small": 2, "big": 8} | options)


def test_batch_errors(model, batch):
    x, y = batch
    with pytest.raises(InputError, match=r"batches of one size, a multiple of 4 of them, got 17 of sizes \[20\]"):
        noise_scale_of_batches(model, F.cross_entropy, [batch] * 17)
    with pytest.raises(InputError, match=r"got 16 of sizes \[7, 20\]"):
        noise_scale_of_batches(model, F.cross_entropy, [batch] * 15 + [(x[:7], y[:7])])
    with pytest.raises(InputError, match=r"got 0 of sizes \[\]"):
        noise_scale_of_batches(model, F.cross_entropy, [])
    with pytest.raises(InputError, match="at least 4 repeats"):
        noise_scale_of_batches(model, F.cross_entropy, [batch] * 12)
    with pytest.raises(InputError, match="at least 2 parts, got 1"):
        noise_scale_of_batches(model, F.cross_entropy, [batch] * 4, parts=1)
    with pytest.raises(InputError, match="a model with trainable parameters"):
        noise_scale_of_batches(model.requires_grad_(False), F.cross_entropy, [batch] * 16)


@pytest.mark.parametrize(
    "layer", [nn.BatchNorm1d(3), nn.Dropout(0.1), nn.BatchNorm1d(3, track_running_stats=False).eval()]
)
def test_single_examples_need_a_loss_of_their_own(model, batch, layer):
    model.append(layer)
    with pytest.raises(InputError, match=f"fixed for each single example, got {type(layer).__name__}, "):
        noise_scale_per_example(model, F.cross_entropy, *batch)


def test_per_example_errors(model, batch):
    x, y = batch
    with pytest.raises(InputError, match=r"at least 4 examples, .* got 3, 3 and 64"):
        noise_scale_per_example(model, F.cross_entropy, x[:3], y[:3])
    with pytest.raises(InputError, match="got 20, 19 and 64"):
        noise_scale_per_example(model, F.cross_entropy, x, y[1:])
    with pytest.raises(InputError, match="got 20, 20 and 0"):
        noise_scale_per_example(model, F.cross_entropy, x, y, chunk=0)

    def reads_the_data(outputs, targets):
        return outputs.sum() if outputs.sum() > 0 else -outputs.sum()

    with pytest.raises(InputError, match=r"a model that torch.func.vmap can differentiate, got .*vmap"):
        noise_scale_per_example(model, reads_the_data, x, y)
    with pytest.raises(InputError, match="a model with trainable parameters"):
        noise_scale_per_example(model.requires_grad_(False), F.cross_entropy, x, y)
