"""Planted points, whose kind is known, and the answer as a whole."""

import json
import math
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from phoneme.curvature import analyse
from phoneme.curvature.objective import Objective
from phoneme.errors import InputError
from tests.curvature.surfaces import brute_force, network, ragged_batches, rotated, state

NO_DATA = [(torch.zeros(1), torch.zeros(1))]


class Surface(nn.Module):
    """A function of one parameter vector, given as such."""

    def __init__(self, function, point: Tensor):
        super().__init__()
        self.function, self.theta = function, nn.Parameter(point.clone())

    def forward(self, inputs: Tensor) -> Tensor:
        return self.function(self.theta)


def value_of(outputs: Tensor, targets: Tensor) -> tuple[Tensor, int]:
    return outputs, 1


def at(function, point, **options):
    return analyse(Surface(function, point), value_of, NO_DATA, **options)


def quadratic(eigenvalues: Tensor, **options):
    matrix = rotated(eigenvalues)
    return at(lambda t: t @ matrix.to(t) @ t / 2, torch.zeros(len(matrix), dtype=torch.float64), **options)


def tanh_network(hidden: int = 16, inputs: int = 10, classes: int = 4) -> tuple[nn.Module, list]:
    """All weights 0, with balanced classes: an exact saddle whose lowest eigenvalue occurs `hidden` times."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, inputs, generator=generator, dtype=torch.float64)
    y = torch.arange(400) % classes
    x += torch.eye(classes, inputs, dtype=torch.float64)[y]
    model = nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, classes)).double()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    return model, [(x[:150], y[:150]), (x[150:], y[150:])]


def logistic(weight_decay: float, dtype: torch.dtype) -> tuple[nn.Module, list]:
    """Logistic regression at its optimum, found by Newton steps in float64."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(300, 6, generator=generator, dtype=torch.float64)
    y = (x @ torch.randn(6, 3, generator=generator, dtype=torch.float64)).argmax(-1)
    theta = torch.zeros(3 * 6 + 3, dtype=torch.float64)

    def loss(t: Tensor) -> Tensor:
        return F.cross_entropy(x @ t[:18].view(3, 6).T + t[18:], y) + weight_decay / 2 * t.square().sum()

    for _ in range(30):
        gradient, hessian = torch.func.grad(loss)(theta), torch.func.hessian(loss)(theta)
        theta -= torch.linalg.solve(hessian, gradient)
    model = nn.Linear(6, 3).to(dtype)
    with torch.no_grad():
        model.weight.copy_(theta[:18].view(3, 6))
        model.bias.copy_(theta[18:])
    return model, [(x.to(dtype), y)]


@pytest.mark.parametrize("spectrum", ["auto", "extremes", "probes"])
def test_the_zero_network_is_a_saddle_of_multiplicity_16(spectrum):
    model, batches = tanh_network()
    answer = analyse(model, nn.CrossEntropyLoss(), batches, spectrum=spectrum)
    _, _, hessian = brute_force(model, batches)
    truth = torch.linalg.eigvalsh(hessian)
    assert answer.verdict == "saddle", answer.why
    assert answer.lambda_min.value == pytest.approx(truth[0].item(), rel=1e-6)
    assert answer.lambda_min.multiplicity == 16
    assert answer.witness.curvature == pytest.approx(truth[0].item(), rel=1e-6)
    assert answer.escape.measured > 0 and answer.escape.best_measured >= answer.escape.measured
    assert answer.escape.measured == pytest.approx(answer.escape.predicted, rel=0.2)


@pytest.mark.parametrize("spectrum", ["auto", "extremes"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("weight_decay", [0.1, 1e-3])
def test_regularised_logistic_regression_at_its_optimum_is_a_minimum(weight_decay, dtype, spectrum):
    model, batches = logistic(weight_decay, dtype)
    answer = analyse(model, nn.CrossEntropyLoss(), batches, weight_decay=weight_decay, spectrum=spectrum)
    assert answer.verdict == "local_minimum", answer.why
    assert answer.lambda_min.value == pytest.approx(weight_decay, rel=1e-2)  # softmax: shifts of all logits
    assert answer.escape is None


@pytest.mark.parametrize("spectrum", ["auto", "extremes"])
def test_without_the_penalty_it_has_flat_directions(spectrum):
    model, batches = logistic(1e-3, torch.float64)
    theta = torch.cat([p.detach().flatten() for p in model.parameters()])

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:  # a linear term that makes the point critical again
        gradient = -1e-3 * theta
        flat = torch.cat([p.flatten() for p in model.parameters()])
        return F.cross_entropy(outputs, targets) - 0 * (gradient @ flat)

    answer = analyse(model, loss, batches, spectrum=spectrum, gradient_tolerance=1.0)
    assert answer.verdict == "degenerate", answer.why
    assert answer.lambda_min.value == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize("spectrum", ["auto", "extremes"])
def test_a_negated_loss_has_a_maximum(spectrum):
    model, batches = logistic(0.1, torch.float64)

    def negated(outputs: Tensor, targets: Tensor) -> Tensor:
        return -F.cross_entropy(outputs, targets)

    answer = analyse(model, negated, batches, weight_decay=-0.1, spectrum=spectrum)
    assert answer.verdict == "local_maximum", answer.why
    assert answer.escape.measured > 0


@pytest.mark.parametrize("size", [40, 400, 2500])
@pytest.mark.parametrize(("lowest", "verdict"), [(1e-4, "local_minimum"), (-1e-4, "saddle")])
def test_a_rotated_quadratic_whose_lowest_curvature_is_small(lowest, verdict, size):
    eigenvalues = torch.cat([torch.tensor([lowest], dtype=torch.float64), torch.linspace(0.01, 1, size - 1).double()])
    answer = quadratic(eigenvalues, spectrum="auto" if size < 2048 else "extremes")
    assert answer.verdict == verdict, answer.why
    assert answer.lambda_min.value == pytest.approx(lowest, rel=0.1)
    assert answer.lambda_min.lower <= lowest <= answer.lambda_min.upper


def test_a_monkey_saddle_is_no_minimum():
    answer = at(lambda t: t[0] ** 3 - 3 * t[0] * t[1] ** 2, torch.zeros(2, dtype=torch.float64))
    assert answer.verdict == "degenerate", answer.why
    answer = at(lambda t: t[0] ** 3 - 3 * t[0] * t[1] ** 2 + t[2] ** 2, torch.zeros(3, dtype=torch.float64))
    assert answer.verdict == "degenerate", answer.why


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("off", [0.0, 1e-6, -1e-6])
def test_a_flat_valley_is_degenerate_even_a_little_off_its_floor(off, dtype):
    point = torch.tensor([1.3, (1 + off) / 1.3], dtype=dtype)
    answer = at(lambda t: (1 - t[0] * t[1]) ** 2 + 0.5, point)
    assert answer.verdict == "degenerate", answer.why
    assert answer.lambda_max.value > 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("off", [1e-4, -1e-4, 1e-6, -1e-6])
def test_a_stiffer_direction_beside_the_valley_hides_nothing(off, dtype):
    point = torch.tensor([1.3, (1 + off) / 1.3, 0.0], dtype=dtype)
    answer = at(lambda t: 50 * t[2] ** 2 + (1 - t[0] * t[1]) ** 2 + 0.5, point)
    assert answer.verdict == "degenerate", answer.why


@pytest.mark.parametrize("x", [1e-2, 1e-3, 1e-5, -1e-3, -1e-5])
def test_beside_an_inflection_there_is_neither_a_minimum_nor_a_saddle(x):
    for function in (
        lambda t: t[0] ** 3 + t[1] ** 2 + 0.5,
        lambda t: t[0] ** 3 - 3 * t[0] * t[1] ** 2 + t[2] ** 2 + 0.5,
    ):
        answer = at(function, torch.tensor([x, 0.0, 0.0], dtype=torch.float64))
        assert answer.verdict in ("degenerate", "undecided", "not_critical"), answer.why


@pytest.mark.parametrize("steepest", [1e2, 1e4, 1e6])
def test_a_gradient_along_a_gentle_slope_is_not_small_because_another_direction_is_steep(steepest):
    answer = at(lambda t: (steepest * t[0] ** 2 + t[1] ** 2) / 2, torch.tensor([0.0, 0.9], dtype=torch.float64))
    assert answer.verdict == "not_critical", answer.why


@pytest.mark.parametrize("shift", [0.0, 1e-5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_spectrum_without_gaps_is_no_minimum_before_its_end_is_known(shift, dtype):
    eigenvalues = torch.linspace(0, 1, 2500, dtype=torch.float64) ** 2 - shift
    q = torch.randn(2500, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    q /= q.norm()

    def function(t: Tensor) -> Tensor:
        reflected = t - 2 * q.to(t) * (q.to(t) @ t)
        return reflected @ (eigenvalues.to(t) * reflected) / 2 + 1

    answer = at(function, torch.zeros(2500, dtype=dtype), spectrum="extremes", max_products=150)
    assert answer.verdict in ("degenerate", "undecided"), answer.why
    assert answer.lambda_min.lower <= -shift <= answer.lambda_min.upper


def test_a_constant_loss_is_flat_at_once():
    answer = at(lambda t: (0 * t).sum() + 1, torch.zeros(3000), spectrum="extremes")
    assert answer.verdict == "degenerate", answer.why
    assert answer.cost["products"] <= 6 + 5  # of the spectrum, and those that check it in float64 and nearby


def test_near_copies_are_not_counted_as_one_multiple_eigenvalue():
    answer = quadratic(torch.tensor([-1.0, -1.0 + 5e-7, -1.0 + 9e-7, 1.0], dtype=torch.float64))
    assert (answer.lambda_min.multiplicity, answer.lambda_max.multiplicity) == (1, 1)


@pytest.mark.parametrize("scale", [1e-20, 1e-7, 1e20])
def test_the_scale_of_the_loss_does_not_matter(scale):
    model, batches = tanh_network(hidden=4)
    loss = nn.CrossEntropyLoss()
    answer = analyse(model, lambda outputs, targets: scale * loss(outputs, targets), batches)
    assert answer.verdict == "saddle" and answer.escape.lowered, answer.why
    assert answer.escape.measured == pytest.approx(answer.escape.predicted, rel=0.2)
    assert answer.gradient_norm_relative < 1e-10


@pytest.mark.parametrize("normalise", [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm])
def test_normalised_weights_have_symmetric_second_derivatives(normalise):
    torch.manual_seed(0)
    model = nn.Sequential(normalise(nn.Linear(3, 5)), nn.Tanh(), nn.Linear(5, 4)).eval()
    answer = analyse(model, nn.CrossEntropyLoss(), ragged_batches())
    truth = torch.linalg.eigvalsh(brute_force_by_differences(model, ragged_batches()))
    assert answer.lambda_min.value == pytest.approx(truth[0].item(), abs=1e-6)
    assert answer.lambda_max.value == pytest.approx(truth[-1].item(), abs=1e-6)


def brute_force_by_differences(model: nn.Module, batches: list, step: float = 1e-5) -> Tensor:
    """Central differences of the gradient, which is right even where second derivatives are not."""
    objective = Objective(model, nn.CrossEntropyLoss(), batches, dtype=torch.float64)
    units = torch.eye(objective.size, dtype=torch.float64) * step
    rows = [objective.at(objective.point + u).gradient() - objective.at(objective.point - u).gradient() for u in units]
    hessian = torch.stack(rows) / (2 * step)
    return (hessian + hessian.T) / 2


class Crooked(torch.autograd.Function):
    """x^2 with a second derivative of its own."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x * x).sum()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * 2 * (x + 0.1 * (x.roll(1) * torch.arange(len(x)).to(x)))


def test_wrong_second_derivatives_are_refused():
    for spectrum in ("auto", "extremes"):
        with pytest.raises(InputError, match="symmetric"):
            at(lambda t: Crooked.apply(t) + 1, torch.ones(8, dtype=torch.float64), spectrum=spectrum)


def test_float32_bounds_know_the_error_of_float32_products():
    torch.manual_seed(0)
    model = nn.Linear(20, 41)
    inputs, targets = torch.randn(200, 20) + 1e4, torch.randint(41, (200,))
    answer = analyse(model, nn.CrossEntropyLoss(), [(inputs, targets)], spectrum="extremes", tolerance=1e-6)
    truth = analyse(model, nn.CrossEntropyLoss(), [(inputs, targets)], dtype=torch.float64)
    exact = truth.lambda_max.value
    assert abs(answer.lambda_max.value - exact) <= answer.lambda_max.bound
    assert answer.lambda_max.lower <= exact <= answer.lambda_max.upper


def test_tensors_that_stay_float32_inside_the_model_are_said(caplog):
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.output = nn.GRU(3, 4, batch_first=True), nn.Linear(4, 4)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.output(self.cell(inputs[:, None], torch.zeros(1, len(inputs), 4))[0][:, -1])

    torch.manual_seed(0)
    answer = analyse(Recurrent(), nn.CrossEntropyLoss(), ragged_batches())
    assert "dtype=x.dtype" in caplog.text
    assert answer.lambda_max.value > 0


def test_the_lecture_s_two_weights_escape_along_the_diagonal():
    answer = at(lambda t: (1 - t[0] * t[1]) ** 2, torch.zeros(2, dtype=torch.float64))
    assert answer.verdict == "saddle", answer.why
    assert (answer.lambda_min.value, answer.lambda_max.value) == (pytest.approx(-2), pytest.approx(2))
    assert answer.witness.vector.abs().tolist() == pytest.approx([math.sqrt(0.5)] * 2)


def test_a_slope_is_not_critical():
    model = network()
    answer = analyse(model, nn.CrossEntropyLoss(), ragged_batches(), spectrum="extremes")
    assert answer.verdict == "not_critical", answer.why
    assert answer.witness is None and answer.escape is None
    assert answer.gradient_norm_relative > 0.01


def test_the_answer_agrees_with_brute_force_and_leaves_no_trace():
    model, batches = network(), ragged_batches()
    before = state(model)
    answer = analyse(model, nn.CrossEntropyLoss(), batches, weight_decay=0.01)
    assert state(model) == before
    value, gradient, hessian = brute_force(model, batches, weight_decay=0.01)
    truth = torch.linalg.eigvalsh(hessian)
    assert answer.loss == pytest.approx(value, rel=1e-6)
    assert answer.gradient_norm == pytest.approx(gradient.norm().item(), rel=1e-5)
    assert answer.lambda_min.value == pytest.approx(truth[0].item(), abs=1e-6)
    assert answer.leading_eigenvalues == pytest.approx(truth.flip(0)[:5].tolist(), rel=1e-5)
    assert answer.trace.value == pytest.approx(truth.sum().item(), rel=1e-5)
    assert answer.minimum_ratio.exact
    assert answer.minimum_ratio.negative.low == pytest.approx((truth < -1e-12).double().mean().item())


def test_the_dictionary_is_json_with_the_promised_names():
    answer = analyse(network(), nn.CrossEntropyLoss(), ragged_batches(), spectrum="probes", second=ragged_batches())
    content = json.loads(json.dumps(answer.to_dict(), allow_nan=False))
    promised = {
        *("verdict", "why", "gradient_norm", "gradient_norm_relative", "gradient_threshold", "lambda_min", "taylor"),
        *("lambda_max", "minimum_ratio", "escape", "homework_2_2", "cost", "kinks", "data", "spectral_density"),
    }
    assert promised <= content.keys()
    assert {"value", "bound", "lower", "upper", "failure"} <= content["lambda_min"].keys()
    assert {"products", "seconds", "dtype", "seed"} <= content["cost"].keys()
    assert "directions" not in content


def test_a_relu_network_is_said_to_have_kinks():
    answer = analyse(network(nn.ReLU), nn.CrossEntropyLoss(), ragged_batches(), spectrum="extremes")
    assert answer.kinks.inputs == 2 * 5 * 38
    assert analyse(network(nn.Tanh), nn.CrossEntropyLoss(), ragged_batches(), spectrum="extremes").kinks is None


def test_a_compiled_model_is_analysed_too():
    model = network()
    plain = analyse(model, nn.CrossEntropyLoss(), ragged_batches(), spectrum="extremes")
    model.eval().compile(backend="aot_eager")
    model(ragged_batches()[0][0])
    compiled = analyse(model, nn.CrossEntropyLoss(), ragged_batches(), spectrum="extremes")
    assert compiled.lambda_min.value == pytest.approx(plain.lambda_min.value, rel=1e-6)


def test_an_unused_parameter_is_said_and_harmless():
    model = network()
    model.register_parameter("spare", nn.Parameter(torch.ones(3)))
    answer = analyse(model, nn.CrossEntropyLoss(), ragged_batches(), spectrum="extremes")
    assert answer.unused_parameters == ("spare",)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"spectrum": "exakt"}, "did you mean exact"),
        ({"tolerance": 0}, "tolerance"),
        ({"gradient_tolerance": -1}, "gradient_tolerance"),
        ({"max_products": 3}, "max_products"),
        ({"parameters": ["nothing"]}, "nothing"),
        ({"failure": 2.0}, "failure"),
    ],
)
def test_settings_out_of_range_are_refused(options, match):
    with pytest.raises(InputError, match=match):
        analyse(network(), nn.CrossEntropyLoss(), ragged_batches(), **options)


@pytest.mark.parametrize(
    ("model", "loss", "batches", "match"),
    [
        (Surface(lambda t: t.norm() + 1, torch.zeros(3)), value_of, NO_DATA, "second derivatives here"),
        (Surface(lambda t: 1e30 * (t @ t) * 1e10, torch.zeros(3)), value_of, NO_DATA, "finite"),
        (nn.Linear(3, 4), nn.CrossEntropyLoss(), [(torch.zeros(5, 7), torch.zeros(5).long())], "batch 0"),
        (nn.Linear(3, 4), nn.CrossEntropyLoss(), [(torch.zeros(5, 3), torch.zeros(4).long())], "batch 0"),
        (
            nn.Linear(3, 4),
            lambda o, t: (o.sum(), 5, 1),
            [(torch.zeros(5, 3), torch.zeros(5).long())],
            r"\(sum, count\)",
        ),
        (nn.Linear(3, 4), lambda o, t: (1.0, 5), [(torch.zeros(5, 3), torch.zeros(5).long())], r"\(sum, count\)"),
        (nn.Linear(3000, 1000), nn.CrossEntropyLoss(), [(torch.zeros(2, 3000), torch.zeros(2).long())], "free memory"),
    ],
)
def test_what_cannot_be_analysed_is_refused_in_one_message(model, loss, batches, match):
    with pytest.raises(InputError, match=match):
        analyse(model, loss, batches, spectrum="exact")


def test_named_tuples_and_what_a_model_remembers_are_left_alone():
    class Pair(NamedTuple):
        left: Tensor
        right: Tensor

    class Remembers(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.last, self.calls = nn.Linear(3, 4), None, 0

        def forward(self, left: Tensor, right: Tensor) -> Tensor:
            self.calls, self.last = self.calls + 1, left
            return self.linear(left + right)

    model = Remembers()
    inputs = Pair(torch.randn(6, 3), torch.randn(6, 3))
    analyse(model, nn.CrossEntropyLoss(), [(inputs, torch.arange(6) % 4)], spectrum="extremes")
    assert model.calls == 0 and model.last is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("spectrum", ["auto", "probes"])
def test_the_gpu_finds_the_same(spectrum):
    here = analyse(network(), nn.CrossEntropyLoss(), ragged_batches(), spectrum=spectrum)
    there = analyse(network().cuda(), nn.CrossEntropyLoss(), ragged_batches(), spectrum=spectrum)
    assert there.cost["device"].startswith("cuda") and there.verdict == here.verdict
    assert there.lambda_min.value == pytest.approx(here.lambda_min.value, rel=1e-4)
    assert there.leading_eigenvalues == pytest.approx(here.leading_eigenvalues, rel=1e-4)
