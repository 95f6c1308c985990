"""A2: what does a model reach that cannot fail to be optimised, and does it catch a network that has failed?"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from phoneme.baselines import fit, make_estimator
from phoneme.lab.bench import Bench
from phoneme.lab.descent import descend, score
from phoneme.lab.experiment import Experiment, Measured
from phoneme.lab.pictures import Bars, Panel, Picture
from phoneme.lab.rules import Claim, Rule
from phoneme.lab.speech import Frames
from phoneme.wording import digits

FRAMES = 3000
SIMPLE = MappingProxyType(  # as in conf/baseline
    {
        "logistic": {"C": 1e-2, "tol": 1e-4, "max_iter": 1000},
        "linear_svm": {"C": 1e-3, "tol": 0.1, "max_iter": 1000},
    }
)
RATE, BATCH = 1e-3, 128  # of Adam: its authors' rate
NETWORKS = MappingProxyType(  # the rate of Adam, and hidden blocks, of plain networks
    {
        "trained": (RATE, 2),
        "bad_rate": (RATE / 100, 2),
        "too_deep": (RATE, 30),
    }
)
LABELS = MappingProxyType(
    {
        "logistic": "logistic\nregression",
        "linear_svm": "linear\nSVM",
        "trained": "network",
        "bad_rate": "network,\nbad rate",
        "too_deep": "network,\ntoo deep",
    }
)
NETWORK_IN_WORDS = MappingProxyType(
    {
        "trained": "the network that should train",
        "bad_rate": "the one with a bad rate",
        "too_deep": "the one that is too deep",
    }
)


def measure(bench: Bench, steps: int | None = None, networks: Mapping[str, tuple[float, int]] = NETWORKS) -> Measured:
    """`networks`: the rate and the depth of each."""
    steps = steps or bench.choose(800, 2000)
    accuracy: dict[str, dict[str, list[float]]] = {
        side: {name: [] for name in LABELS} for side in ("training", "validation")
    }
    converged: dict[str, list[bool]] = {name: [] for name in SIMPLE}
    prior = []
    for seed in bench.track(bench.seeds, "simple models"):
        train, val = bench.speech.train(FRAMES, seed), bench.speech.val(FRAMES, seed)
        prior.append((val.targets == train.targets.mode().values).double().mean().item())
        models: dict[str, nn.Module] = {}
        for name, options in SIMPLE.items():
            estimator = make_estimator(name, seed, **options)
            fitted = fit(estimator, train.inputs.cpu(), train.targets.cpu(), bench.speech.classes)
            converged[name].append(fitted.converged)
            models[name] = fitted.network.to(bench.device)
        for name, (rate, depth) in networks.items():
            models[name] = _trained(bench, train, seed, steps, rate, depth)
        for name, model in models.items():
            accuracy["training"][name].append(score(model, train).accuracy)
            accuracy["validation"][name].append(score(model, val).accuracy)
    return Measured(
        effects=_effects(accuracy, prior),
        pictures=(_picture(accuracy),),
        numbers={
            "accuracy": accuracy,
            "validation_accuracy_of_the_most_frequent_class": prior,
            "converged": converged,
            "frames": FRAMES,
            "updates": steps,
        },
    )


def _trained(bench: Bench, train: Frames, seed: int, steps: int, rate: float, depth: int) -> nn.Module:
    changes: dict[str, Any] = {"norm": "none", "activation": "relu", "residual": False, "dropout": 0.0}
    model = bench.model(seed, depth=depth, **changes)
    descend(model, train, torch.optim.Adam(model.parameters(), lr=rate), steps=steps, batch_size=BATCH, seed=seed)
    return model


def _effects(accuracy: dict[str, dict[str, list[float]]], prior: list[float]) -> dict[str, list[float]]:
    training, validation = accuracy["training"], accuracy["validation"]
    simple = list(zip(*(training[name] for name in SIMPLE), strict=True))

    def over(name: str) -> list[float]:
        """Training accuracy minus that of the better simple model."""
        return [mine - max(theirs) for mine, theirs in zip(training[name], simple, strict=True)]

    return {
        **{
            f"{name}_reaches": [mine - often for mine, often in zip(validation[name], prior, strict=True)]
            for name in SIMPLE
        },
        **{f"{name}_over_simple": over(name) for name in ("trained", "bad_rate", "too_deep")},
    }


def _picture(accuracy: dict[str, dict[str, list[float]]]) -> Picture:
    means = {name: sum(values) / len(values) for name, values in accuracy["training"].items()}
    level = max(means[name] for name in SIMPLE)
    below = [words for name, words in NETWORK_IN_WORDS.items() if means[name] < level]
    caught = ", ".join(below) if below else "no network"
    return Picture(
        "accuracy",
        f"Linear models reach {digits(level)} in training; networks below that, not well optimised: {caught}",
        (
            Panel(
                "",
                "accuracy",
                tuple(
                    Bars(tuple(LABELS.values()), [values[name] for name in LABELS], side)
                    for side, values in accuracy.items()
                ),
            ),
        ),
    )


EXPERIMENT = Experiment(
    name="simple_models",
    title="What a simple model reaches",
    claims={
        "A2": Claim(
            says="A linear model and a linear SVM, which cannot fail to be optimised, tell what a simple model "
            "reaches. A network that can do all a linear model can, and has the lower training accuracy, was not "
            "optimised; one that was optimised is above.",
            refuted_by="Linear models that learn nothing; a network with a bad rate, or far too deep, that still has "
            "the higher training accuracy; or a network that trains well and stays below.",
        )
    },
    rules=(
        Rule(
            "A2",
            "logistic_reaches",
            "validation accuracy of logistic regression, minus of always the most frequent class",
            above=0.1,
        ),
        Rule(
            "A2",
            "linear_svm_reaches",
            "validation accuracy of the linear SVM, minus of always the most frequent class",
            above=0.1,
        ),
        Rule(
            "A2",
            "trained_over_simple",
            "training accuracy of a network that trains, minus of the better linear model",
            above=0.02,
        ),
        Rule(
            "A2",
            "bad_rate_over_simple",
            "training accuracy of a network with a hundredth of the rate, minus of the better linear model",
            below=-0.02,
        ),
        Rule(
            "A2",
            "too_deep_over_simple",
            "training accuracy of a plain network of 30 layers, minus of the better linear model",
            below=-0.02,
        ),
    ),
    measure=measure,
)
