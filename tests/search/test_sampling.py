"""Points of a search: even, the same for a seed whoever asks, and never twice."""

from itertools import pairwise

import optuna
import pytest
from optuna.pruners import HyperbandPruner, NopPruner
from optuna.trial import TrialState

from phoneme.errors import InputError
from phoneme.search import make_pruner, make_sampler, mark_surplus, read_space, repeat, suggest

SPACE = read_space(
    {
        "lr": {"log": [1e-4, 1e-2]},
        "norm": {"choice": ["none", "batch", "layer", None]},
        "depth": {"int": [1, 4]},
        "width": {"log_int": [16, 1024]},
    }
)


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def points(sampler: str, count: int, seed: int = 0, storage: optuna.storages.BaseStorage | None = None) -> list[dict]:
    """`count` more trials of one study, with a value that prefers large rates."""
    study = optuna.create_study(
        storage=storage or optuna.storages.InMemoryStorage(),
        study_name="s",
        load_if_exists=True,
        direction="maximize",
        sampler=make_sampler(sampler, SPACE, seed),
    )
    for _ in range(count):
        trial = study.ask()
        study.tell(trial, suggest(trial, SPACE)["lr"])
    return [trial.params for trial in study.trials]


def test_quasi_random_points_are_even_in_every_setting():
    drawn = points("qmc", 64)
    for name, values in (("norm", ["none", "batch", "layer", None]), ("depth", [1, 2, 3, 4])):
        assert [sum(point[name] == value for point in drawn) for value in values] == [16] * 4
    edges = [1e-4 * 100 ** (i / 8) for i in range(9)]
    counts = [sum(low <= point["lr"] < high for point in drawn) for low, high in pairwise(edges)]
    assert counts == [8] * 8
    below = sum(point["width"] < 128 for point in drawn)  # the middle of 16 … 1024 on a logarithmic scale
    assert 30 <= below <= 34


def test_quasi_random_choices_are_even_beside_each_other():
    pairs = [(point["norm"], point["depth"]) for point in points("qmc", 256)]
    assert {pairs.count(pair) for pair in pairs} <= set(range(12, 21)) and len(set(pairs)) == 16


@pytest.mark.parametrize("sampler", ["qmc", "random", "tpe"])
def test_a_resumed_search_goes_on_with_the_same_points(sampler):
    storage = optuna.storages.InMemoryStorage()
    whole = points(sampler, 14)
    for count in (5, 7, 2):  # tpe follows the results from its tenth trial on
        resumed = points(sampler, count, storage=storage)
    assert resumed == whole and len({point["lr"] for point in whole}) == 14


def test_an_interrupted_search_leaves_no_point_out():
    """Trial 3 is interrupted and repeated, trial 9 came too many: the 16 that are left have the first 16 points."""
    study = optuna.create_study(direction="maximize", sampler=make_sampler("qmc", SPACE, 0))
    while sum(trial.state is TrialState.COMPLETE for trial in study.trials) < 16:
        trial = study.ask()
        values = suggest(trial, SPACE)
        if trial.number == 3:
            repeat(study, trial)
            study.tell(trial, state=TrialState.FAIL)
        elif trial.number == 9:
            assert mark_surplus(study, trial, 2)
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, values["lr"])
    done = [trial.params for trial in study.trials if trial.state is TrialState.COMPLETE]
    assert sorted(point["lr"] for point in done) == sorted(point["lr"] for point in points("qmc", 16))


@pytest.mark.parametrize("sampler", ["qmc", "random", "tpe"])
def test_another_seed_gives_other_points(sampler):
    assert not {point["lr"] for point in points(sampler, 4)} & {point["lr"] for point in points(sampler, 4, seed=1)}


def test_tpe_follows_the_results():
    rates = [point["lr"] for point in points("tpe", 40)]
    assert sum(rates[20:]) / 20 > 2 * sum(rates[:10]) / 10


def test_pruners():
    assert isinstance(make_pruner("none", 30), NopPruner)
    assert isinstance(make_pruner("hyperband", 30), HyperbandPruner)
    with pytest.raises(InputError, match=r"for Hyperband to divide, got trainer.max_epochs=-1\n  where: pruner"):
        make_pruner("hyperband", -1)
    with pytest.raises(InputError, match=r"median or hyperband or none, got medium[\s\S]*did you mean median\?"):
        make_pruner("medium", 30)


def test_a_sampler_that_is_not_there():
    with pytest.raises(InputError, match=r"qmc or tpe or random, got sobol\n  where: sampler"):
        make_sampler("sobol", SPACE, 0)
    with pytest.raises(InputError, match=r"a seed from 0 to 2\^32 - 1, got -1"):
        make_sampler("qmc", SPACE, -1)
