"""A6: how many examples make it unlikely that the training set is a bad one?"""

import math

import torch

from phoneme.lab.bench import Bench
from phoneme.lab.experiment import Experiment, Measured
from phoneme.lab.pictures import Level, Line, Panel, Picture
from phoneme.lab.rules import Claim, Rule

HYPOTHESES, EPSILON, DELTA = 10_000, 0.1, 0.1  # of the lecture
COIN = 0.5  # the true error rate of each hypothesis in the simulation: the one that varies most


def bound(hypotheses: int, n: int, epsilon: float) -> float:
    """|H| 2 exp(-2 N epsilon^2): Hoeffding (1963), and the union over the hypotheses.

    >>> round(bound(10_000, 100, 0.1)), round(bound(10_000, 500, 0.1), 2), round(bound(10_000, 1000, 0.1), 6)
    (2707, 0.91, 4.1e-05)
    """
    return hypotheses * 2 * math.exp(-2 * n * epsilon**2)


def examples_needed(hypotheses: int, epsilon: float, delta: float) -> int:
    """The least N whose bound is at most delta: ln(2 |H| / delta) / (2 epsilon^2).

    >>> examples_needed(10_000, 0.1, 0.1)
    611
    """
    return math.ceil(math.log(2 * hypotheses / delta) / (2 * epsilon**2))


def bad_share(hypotheses: int, n: int, epsilon: float, sets: int, seed: int) -> float:
    """Of `sets` training sets the share where some hypothesis's error is off by more than epsilon.

    The hypotheses err independently of each other, each with probability COIN.
    """
    counts = torch.full((sets, hypotheses), float(n))
    errors = torch.binomial(counts, torch.tensor(COIN).expand_as(counts), torch.Generator().manual_seed(seed)) / n
    return ((errors - COIN).abs() > epsilon).any(1).double().mean().item()


def measure(bench: Bench, hypotheses: int = HYPOTHESES, epsilon: float = EPSILON) -> Measured:
    sizes = list(range(50, 1001, 25))
    sets = bench.choose(50, 200)
    shares = [[bad_share(hypotheses, n, epsilon, sets, seed) for n in sizes] for seed in bench.seeds]
    bounds = [bound(hypotheses, n, epsilon) for n in sizes]
    needed = examples_needed(hypotheses, epsilon, DELTA)
    by_n = {n: bound(hypotheses, n, epsilon) for n in (100, 500, 1000)}
    picture = Picture(
        "bound",
        f"A training set of {needed} examples is bad with a probability of at most {DELTA:g}; simulated, far less",
        (
            Panel(
                "training examples N",
                "probability of a bad training set",
                (
                    Line("the bound, capped at 1", sizes, [min(value, 1.0) for value in bounds]),
                    Line(f"simulated: {hypotheses:,} independent hypotheses", sizes, shares),
                    Level(f"δ = {DELTA:g}", DELTA),
                ),
            ),
        ),
    )
    return Measured(
        effects={
            "bound_100": [by_n[100]],
            "bound_500": [by_n[500]],
            "bound_1000": [by_n[1000]],
            "examples_needed": [needed],
            "excess_over_bound": [
                max(share - min(value, 1.0) for share, value in zip(row, bounds, strict=True)) for row in shares
            ],
        },
        pictures=(picture,),
        numbers={"bound": by_n, "examples_needed": needed, "training_sets_simulated": sets},
    )


EXPERIMENT = Experiment(
    name="bad_training_set",
    title="How many examples until the training set is probably a good one?",
    claims={
        "A6": Claim(
            says="A training set is bad with a probability of at most |H| 2 exp(−2Nε²). With |H| = 10,000 and ε = 0.1: "
            "2707 for N = 100 (says nothing), 0.91 for 500, 4.1e-5 for 1000; for δ = 0.1, N ≥ 611.",
            refuted_by="Other numbers, or bad training sets more often than the bound allows.",
        )
    },
    rules=(
        Rule("A6", "bound_100", "the bound at N = 100", above=2706.5, below=2707.5, exact=True),
        Rule("A6", "bound_500", "the bound at N = 500", above=0.905, below=0.915, exact=True),
        Rule("A6", "bound_1000", "the bound at N = 1000", above=4.05e-5, below=4.15e-5, exact=True),
        Rule("A6", "examples_needed", "examples for δ = 0.1", above=610.5, below=611.5, exact=True),
        Rule("A6", "excess_over_bound", "largest share of bad sets in the simulation, minus the bound", below=0.05),
    ),
    measure=measure,
)
