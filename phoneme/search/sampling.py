"""Who chooses the next point of a search, and who ends a hopeless trial.

Every sampler here is a function of the seed and the trial's number, which the storage hands out once (of the Sobol
sequence: less those that took no point). So a search that is resumed, or that several processes share, draws no point
twice and leaves none out; optuna's own samplers, given a seed, would start again from its beginning, and its
QMCSampler counts its points without a lock.
"""

import hashlib
from collections.abc import Callable
from typing import Any

import torch
from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from phoneme.build import did_you_mean
from phoneme.errors import InputError
from phoneme.search.space import Distribution, Space, Value
from phoneme.search.study import took_no_point

# Trials that train to their end before one is pruned: optuna's own number for the median rule (Golovin et al. 2017).
TRIALS_BEFORE_PRUNING = 5


class SobolSampler(BaseSampler):
    """The next point of a scrambled Sobol sequence over the whole space, choices included.

    Its place is the trial's number without the earlier trials that repeated a point or came too many.

    Quasi-random points cover every projection of the space evenly, whatever the results are: they can be looked at with
    any question afterwards (Bergstra and Bengio 2012; google-research/tuning_playbook). The engine is torch's.
    """

    def __init__(self, space: Space, seed: int):
        self.space, self.seed = space, seed

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {name: distribution for name, distribution in self.space.items() if not distribution.single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        engine = torch.quasirandom.SobolEngine(len(search_space), scramble=True, seed=self.seed)
        idle = sum(took_no_point(other) for other in study.get_trials(deepcopy=False)[: trial.number])
        point = engine.fast_forward(trial.number - idle).draw(1, dtype=torch.float64)[0].tolist()
        return {name: place(d, u) for (name, d), u in zip(search_space.items(), point, strict=True)}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        raise KeyError(f"{param_name} is not in the space of this sampler")


def place(distribution: Distribution, u: float) -> Value:
    """The value at share `u` of a distribution, 0 <= u < 1.

    >>> from optuna.distributions import FloatDistribution
    >>> place(FloatDistribution(1.0, 100.0, log=True), 0.5), place(IntDistribution(2, 6), 0.99)
    (10.0, 6)
    """
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(u * len(distribution.choices))]
    low, high = distribution.low, distribution.high
    if isinstance(distribution, IntDistribution):
        if not distribution.log:
            return low + int(u * (high - low + 1))
        low, high = low - 0.5, high + 0.5  # so that each integer has the share of what rounds to it
        return min(max(round(low * (high / low) ** u), distribution.low), distribution.high)
    value = low * (high / low) ** u if distribution.log else low + u * (high - low)
    return min(max(value, low), high)


class SeededSampler(BaseSampler):
    """One of optuna's samplers, made anew for each trial from the seed and the trial's number."""

    def __init__(self, make: Callable[[int], BaseSampler], seed: int):
        self.make, self.seed = make, seed
        self.inner = make(seed)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        digest = hashlib.blake2b(f"{self.seed} {trial.number}".encode(), digest_size=4).digest()
        self.inner = self.make(int.from_bytes(digest, "big"))
        self.inner.before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self.inner.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self.inner.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: list[float] | None) -> None:
        self.inner.after_trial(study, trial, state, values)


def _tpe(seed: int) -> BaseSampler:
    """Tree-structured Parzen estimator (Bergstra et al. 2011); it keeps away from what other processes are trying."""
    return TPESampler(seed=seed, constant_liar=True)


SAMPLERS = ("qmc", "tpe", "random")
PRUNERS = ("median", "hyperband", "none")


def make_sampler(name: str, space: Space, seed: int) -> BaseSampler:
    """Raises InputError for an unknown name and for a seed below 0 or above 2^32 - 1."""
    if not 0 <= seed < 2**32:
        raise InputError(
            expected="a seed from 0 to 2^32 - 1", got=seed, where="seed", hint="another seed, another set of points"
        )
    if name == "qmc":
        return SobolSampler(space, seed)
    if name in SAMPLERS:
        return SeededSampler(_tpe if name == "tpe" else lambda own: RandomSampler(seed=own), seed)
    raise InputError(expected=" or ".join(SAMPLERS), got=name, where="sampler", hint=did_you_mean(name, SAMPLERS))


def make_pruner(name: str, epochs: int) -> BasePruner:
    """`epochs` is the length of a whole training, which Hyperband divides (Li et al. 2018).

    Raises InputError for an unknown name, and for Hyperband over trainings without an end.
    """
    if name == "median":
        return MedianPruner(n_startup_trials=TRIALS_BEFORE_PRUNING)
    if name == "hyperband":
        if epochs < 1:
            raise InputError(
                expected="a number of epochs for Hyperband to divide",
                got=f"trainer.max_epochs={epochs}",
                where="pruner",
                hint="set trainer.max_epochs in `train`, or pruner=median",
            )
        return HyperbandPruner(min_resource=1, max_resource=epochs)
    if name == "none":
        return NopPruner()
    raise InputError(expected=" or ".join(PRUNERS), got=name, where="pruner", hint=did_you_mean(name, PRUNERS))
