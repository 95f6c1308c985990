import random

import numpy as np
import pytest
import torch
from torch import nn

from phoneme.curvature.parameters import Selection, exact_arithmetic, leaves_no_trace, select
from phoneme.errors import InputError
from tests.curvature.surfaces import network, state


def test_split_and_flatten_are_inverse():
    selection = Selection(("a", "b", "c"), ((2, 3), (), (4,)))
    flat = torch.randn(selection.size)
    assert selection.size == 11
    assert torch.equal(selection.flatten(selection.split(flat)), flat)
    assert [tuple(part.shape) for part in selection.split(torch.zeros(5, 11))] == [(5, 2, 3), (5,), (5, 4)]


def test_select_takes_names_patterns_and_what_is_not_frozen():
    model = network()
    model[0].weight.requires_grad_(False)
    everything = [name for name, _ in model.named_parameters()]
    assert list(select(model).names) == [name for name in everything if name != "0.weight"]
    assert select(model, ["7.bias", "0.weight"]).names == ("0.weight", "7.bias")  # the model's order
    assert select(model, ["1.*"]).names == ("1.weight", "1.bias")
    assert select(model, "7.*").shapes == ((4, 5), (4,))


@pytest.mark.parametrize(
    ("model", "parameters", "message"),
    [
        (nn.Tanh(), None, r"(?s)a model with parameters, got none.*the parameters of Tanh.*hint:"),
        (nn.Linear(2, 2).requires_grad_(False), None, r"(?s)not frozen, got 2 frozen ones.*hint: name"),
        (nn.Linear(2, 2), ["wieght"], r"(?s)name of a parameter.*got wieght.*did you mean weight"),
        (nn.Linear(2, 2), [], r"(?s)at least one parameter, got an empty list"),
    ],
)
def test_select_refuses(model, parameters, message):
    with pytest.raises(InputError, match=message):
        select(model, parameters)


@pytest.mark.parametrize("fails", [False, True])
def test_no_trace_is_left_not_even_by_an_exception(fails):
    model = network()
    model[0].weight.requires_grad_(False)
    model[4].weight.grad = torch.ones(5, 5)
    before, python = state(model), random.getstate()
    try:
        with leaves_no_trace(model), exact_arithmetic(model):
            model.eval()[1].train()
            model[1](torch.randn(9, 5))
            model[1].running_var = torch.zeros(5)
            model.requires_grad_(True)
            model(torch.rand(8, 3)).sum().backward()
            random.random(), np.random.rand()
            if fails:
                raise ArithmeticError
    except ArithmeticError:
        pass
    assert random.getstate() == python  # (the type checker of these tests draws from it elsewhere)
    assert state(model) == before


def test_exact_arithmetic_overrides_what_the_caller_has_set():
    model = nn.Linear(3, 3)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16), exact_arithmetic(model):
        outputs = model(torch.ones(2, 3))
        assert outputs.dtype == torch.float32
        assert torch.autograd.grad(outputs.sum(), model.weight)[0].shape == (3, 3)
