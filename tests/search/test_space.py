"""The space of a search: read, written as overrides, and its edges."""

import math

import pytest

from phoneme.errors import InputError
from phoneme.search import at_the_edge, corners, described, overrides_of, read_space

SPACE = {
    "optim": {"lr": {"log": [1e-4, 1e-2]}},
    "model.width": {"choice": [64, 128, 256]},
    "model": {"choice": ["mlp", "linear"], "depth": {"int": [2, 6]}, "dropout": {"uniform": [0, 0.6]}},
    "data": {"batch_size": {"log_int": [64, 1024]}},
}


def test_dots_and_levels_are_the_same():
    space = read_space(SPACE)
    assert list(space) == ["optim.lr", "model.width", "model", "model.depth", "model.dropout", "data.batch_size"]
    assert read_space({name: described(distribution) for name, distribution in space.items()}) == space


def test_null_takes_something_out():
    assert list(read_space({"optim": {"lr": {"log": [1e-4, 1e-2]}, "eps": None}, "loss": None})) == ["optim.lr"]
    width = read_space({"model.width": {"choice": None, "int": [100, 600]}})["model.width"]
    assert described(width) == {"int": [100, 600]}


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({}, r"at least one setting to vary, got an empty space\n  where: space\n  hint: space=mlp"),
        ({"a": {"logg": [1, 2]}}, r"got logg: \[1, 2\]\n  where: space.a.logg\n  hint: did you mean log\?"),
        ({"a": 3}, r"uniform or log or int or log_int or choice, got a: 3\n  where: space.a"),
        ({"a": {"int": [1, 2], "log": [1, 2]}}, r"one kind of values for a setting, got int and log[\s\S]*int=null"),
        ({"a": {"log": [0, 1]}}, r"a positive lower end for a logarithmic scale, got 0[\s\S]*take uniform"),
        ({"a": {"log_int": [0, 8]}}, r"a positive lower end[\s\S]*take int "),
        (
            {"a": {"uniform": [2, 1]}},
            r"\[low, high\], two numbers, the lower first, got \[2, 1\]\n  where: space.a.uni",
        ),
        ({"a": {"uniform": [1, 1]}}, r"got \[1, 1\][\s\S]*belongs into `train`"),
        ({"a": {"uniform": [1, 2, 3]}}, r"two numbers"),
        ({"a": {"uniform": [0, math.inf]}}, r"two numbers"),
        ({"a": {"uniform": ["1e-4", 1]}}, r"two numbers"),
        ({"a": {"uniform": 3}}, r"two numbers"),
        ({"a": {"int": [1, 2.5]}}, r"two integers"),
        ({"a": {"int": [False, True]}}, r"two integers"),
        ({"a": {"choice": [1]}}, r"a list of at least two different words, numbers"),
        ({"a": {"choice": [1, 1]}}, r"at least two different"),
        ({"a": {"choice": [[0.9, 0.99], [0.9, 0.999]]}}, r"at least two different words, numbers"),
        ({"a": {"choice": "mlp"}}, r"at least two different"),
    ],
)
def test_what_is_no_space(section, message):
    with pytest.raises(InputError, match=message):
        read_space(section)


def test_every_end_is_tried():
    points = list(corners(read_space(SPACE)))
    assert len(points) == 1 + 1 + 2 + 1 + 1 + 1 + 1
    for name, values in {"optim.lr": {1e-4, 1e-2}, "model": {"mlp", "linear"}, "model.width": {64, 128, 256}}.items():
        assert {point[name] for point in points} == values
    assert all(sum(point[name] != points[0][name] for name in point) <= 1 for point in points)


def test_an_override_means_exactly_the_value():
    """Hydra's own parser reads back what is written."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    values = {"a": 0.1 + 0.2, "b": 1e-07, "c": True, "d": None, "e": "it's [one], two=3", "f": 12, "g": "batch"}
    parsed = OverridesParser.create().parse_overrides(overrides_of(values))
    assert {override.key_or_group: override.value() for override in parsed} == values


@pytest.mark.parametrize(
    ("values", "edges"),
    [
        ({"optim.lr": 1.1e-4}, ["optim.lr"]),
        ({"optim.lr": 1e-3, "model.dropout": 0.02}, ["model.dropout"]),
        ({"model.dropout": 0.6, "model.depth": 5}, ["model.dropout"]),
        ({"model.depth": 6, "model.width": 128}, ["model.depth"]),
        ({"model.width": 256, "model": "linear"}, ["model.width"]),
        ({"data.batch_size": 64}, ["data.batch_size"]),
        ({"data.batch_size": 65}, []),
    ],
)
def test_edges(values, edges):
    assert at_the_edge(read_space(SPACE), values) == edges
