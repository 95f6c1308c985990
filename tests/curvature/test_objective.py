import logging
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from phoneme.curvature.hvp import HessianProducts
from phoneme.curvature.lanczos import lanczos
from phoneme.curvature.objective import Objective
from phoneme.errors import InputError
from phoneme.losses import cross_entropy
from tests.curvature.surfaces import CLASSES, IGNORE, brute_force, network, ragged_batches, relative_error, state


def summed(outputs, targets):
    return F.cross_entropy(outputs, targets, reduction="sum"), (targets != IGNORE).sum()


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(), F.cross_entropy, cross_entropy, summed])
@pytest.mark.parametrize("batchnorm", ["eval", "train"])
def test_value_and_gradient_are_those_of_the_mean_over_all_labelled_frames(loss, batchnorm):
    model, batches = network(), ragged_batches()
    value, gradient, _ = brute_force(model, batches, batchnorm=batchnorm, weight_decay=0.1)
    objective = Objective(model, loss, batches, dtype=torch.float64, batchnorm=batchnorm, weight_decay=0.1)
    assert objective.value() == pytest.approx(value, rel=1e-12)
    assert relative_error(objective.gradient(), gradient) < 1e-12
    single = Objective(model, loss, batches, batchnorm=batchnorm, weight_decay=0.1)
    assert single.dtype == torch.float32 and single.value() == pytest.approx(value, rel=1e-6)


def test_another_mark_for_padding_and_class_weights_count_as_the_loss_counts_them():
    model, weight = network().eval(), torch.tensor([1.0, 2.0, 0.5, 3.0])
    batches = [(inputs, targets.where(targets != IGNORE, 99)) for inputs, targets in ragged_batches()]
    inputs, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
    for loss in (nn.CrossEntropyLoss(weight, ignore_index=99), partial(F.cross_entropy, ignore_index=99)):
        found = Objective(model, loss, batches, dtype=torch.float64 if isinstance(loss, nn.Module) else None).value()
        assert found == pytest.approx(loss(model(inputs), targets).item(), rel=1e-6)


def test_regression_counts_numbers_and_sequences_count_frames():
    model = nn.Linear(3, 2)
    batches = [(torch.randn(rows, 3), torch.randn(rows, 2)) for rows in (3, 8)]
    inputs, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert Objective(model, nn.MSELoss(), batches).value() == pytest.approx(F.mse_loss(model(inputs), targets).item())
    frames = torch.randn(2, 6, 3), torch.tensor([[0, 1, 1, 0, 1, IGNORE], [1, 0, IGNORE, IGNORE, 0, 0]])
    whole = cross_entropy(model(frames[0]), frames[1]).item()
    halves = [(frames[0][i : i + 1], frames[1][i : i + 1]) for i in range(2)]
    assert Objective(model, cross_entropy, halves).value() == pytest.approx(whole, rel=1e-6)


def test_inputs_may_be_several_or_named():
    class Sum(nn.Linear):
        def forward(self, left, right):
            return super().forward(left) + super().forward(right)

    model, parts, targets = Sum(3, 2), (torch.randn(4, 3), torch.randn(4, 3)), torch.randn(4, 2)
    expected = F.mse_loss(model(*parts), targets).item()
    for inputs in (parts, {"right": parts[1], "left": parts[0]}):
        assert Objective(model, F.mse_loss, [(inputs, targets)]).value() == pytest.approx(expected)


def test_the_function_is_fixed_at_construction_and_can_be_seen_from_another_point():
    model, batches = network(), ragged_batches()
    objective = Objective(model, cross_entropy, batches)
    value, gradient = objective.value(), objective.gradient()
    moved = objective.at(objective.point - 0.01 * gradient)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.zero_()
        model[1].running_var.mul_(7)
    assert objective.value() == value and moved.value() < value
    assert torch.equal(objective.gradient(), gradient) and not torch.equal(moved.gradient(), gradient)


def test_a_loader_that_shuffles_is_read_once():
    data = TensorDataset(torch.randn(30, 3), torch.randint(CLASSES, (30,)))
    objective = Objective(network(), cross_entropy, DataLoader(data, batch_size=8, shuffle=True))
    assert objective.value() == objective.value() and objective.count == 30


@pytest.mark.parametrize("batchnorm", ["eval", "train"])
def test_no_trace_is_left(batchnorm):
    model, batches = network(), ragged_batches()
    model[0].weight.requires_grad_(False)
    model[4].weight.grad = torch.ones(5, 5)
    inputs = batches[0][0].clone()
    before = state(model)
    with torch.no_grad():
        objective = Objective(model, cross_entropy, batches, batchnorm=batchnorm)
        (
            objective.value(),
            objective.gradient(),
            HessianProducts(objective)(torch.randn(1, objective.size, generator=torch.Generator().manual_seed(0))),
        )
    with torch.enable_grad():
        assert state(model) == before and torch.equal(batches[0][0], inputs)


class Clumsy(nn.Module):
    def __init__(self, forward):
        super().__init__()
        self.linear, self.forward_of = nn.Linear(3, CLASSES), forward

    def forward(self, inputs):
        return self.forward_of(self.linear, inputs)


def test_no_trace_is_left_when_the_model_fails():
    calls = []

    def forward(linear, inputs):
        calls.append(torch.randn(1))
        if len(calls) > 3:
            raise ArithmeticError
        return linear(inputs)

    model = Clumsy(forward).train()
    before = state(model)
    with pytest.raises(ArithmeticError):
        Objective(model, cross_entropy, ragged_batches())
    assert state(model) == before


def test_a_model_that_works_on_its_inputs_in_place_does_not_change_them():
    batches = ragged_batches()
    before = batches[1][0].clone()
    Objective(Clumsy(lambda linear, x: linear(x.mul_(2))), cross_entropy, batches).gradient()
    assert torch.equal(batches[1][0], before)


def test_inference_mode_does_not_matter():
    with torch.inference_mode():
        objective = Objective(network(), cross_entropy, [(2 * x, y) for x, y in ragged_batches()])
        inside = lanczos(HessianProducts(objective)).top[0].value
    assert lanczos(HessianProducts(objective)).top[0].value == inside


def test_half_precision_is_widened_and_said(caplog):
    model = network().half()
    objective = Objective(model, cross_entropy, ragged_batches())
    assert objective.dtype == torch.float32 and "computed in torch.float32" in caplog.text
    assert model[0].weight.dtype == torch.float16


def test_a_parameter_without_influence_is_named(caplog):
    model = nn.Sequential(nn.Linear(3, CLASSES))
    model.spare = nn.Linear(2, 2)
    model.forward = model[0].forward
    with caplog.at_level(logging.WARNING):
        objective = Objective(model, cross_entropy, ragged_batches())
    assert objective.unused == ("spare.weight", "spare.bias")
    assert "does not depend on spare.weight, spare.bias" in caplog.text
    assert objective.gradient()[-6:].eq(0).all()
    assert HessianProducts(objective)(torch.ones(1, objective.size))[0, -6:].eq(0).all()


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        return 2 * grad


def in_place(linear, inputs):
    hidden = linear(inputs).sigmoid()
    hidden.mul_(2)
    return hidden


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (in_place, r"(?s)differentiated twice, got one of the variables.*inplace.*write x = x \+ y"),
        (lambda linear, x: Once.apply(linear(x).tanh()), r"(?s)differentiated twice, got .*once_differentiable"),
        (lambda linear, x: F.dropout(linear(x)), r"(?s)one fixed function, got the losses .*batch 0.*F\.dropout"),
        (lambda linear, x: linear(x) / 0, r"(?s)a finite loss, got nan.*batch 0.*hint: has the training"),
    ],
)
def test_refuses_a_model(forward, message):
    with pytest.raises(InputError, match=message):
        objective = Objective(Clumsy(forward), cross_entropy, ragged_batches())
        HessianProducts(objective)(torch.ones(1, objective.size))


X, Y = torch.ones(2, 3), torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("batches", "loss", "options", "message"),
    [
        ([(X, Y + CLASSES - 1)], cross_entropy, {}, r"(?s)targets from 0 to 3, got 4.*batch 0.*fewer outputs"),
        ([(X, Y - 1)], cross_entropy, {}, r"(?s)targets of 0 or more, or -100.*got -1.*batch 0.*ignore_index"),
        ([(X, Y + 4)], nn.CrossEntropyLoss(torch.ones(4)), {}, r"(?s)from 0 to 3, got 5.*class weights"),
        ([], cross_entropy, {}, r"(?s)at least one target that counts, got none.*batches.*hint: no batch"),
        ([(X, Y * 0 + IGNORE)], cross_entropy, {}, r"(?s)at least one target that counts, got none"),
        ([X], cross_entropy, {}, r"(?s)a pair \(inputs, targets\), got Tensor.*batch 0"),
        ([(X, Y)], nn.CrossEntropyLoss(reduction="sum"), {}, r"(?s)loss that is a mean, got reduction='sum'"),
        ([(X, Y)], lambda z, y: z.sum(dim=1), {}, r"(?s)scalar mean.*\(sum, count\), got a tensor \[2\] for targets"),
        ([(X, (Y, Y))], lambda z, y: z.mean(), {}, r"(?s)targets that are tuple"),
        ([(X, (Y, Y))], lambda z, y: (z.sum(), 0), {}, r"(?s)got a count of 0\.0"),
        ([(X, Y)], cross_entropy, {"batchnorm": "batch"}, r"(?s)eval or train, got batch"),
        ([(X, Y)], cross_entropy, {"dtype": torch.float16}, r"(?s)torch\.float64, got torch\.float16.*digits"),
    ],
)
def test_refuses(batches, loss, options, message):
    with pytest.raises(InputError, match=message):
        Objective(nn.Linear(3, CLASSES), loss, batches, **options)
