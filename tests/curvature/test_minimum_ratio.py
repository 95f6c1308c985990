import json
import math

import pytest
import torch

from phoneme.curvature.density import Quadrature, gauss, quadratures
from phoneme.curvature.hvp import HessianProducts
from phoneme.curvature.minimum_ratio import MinimumRatio, _radau, exact_ratio, mass_below, ratio_interval, ratio_of
from phoneme.curvature.objective import Objective
from phoneme.errors import InputError
from phoneme.losses import cross_entropy
from tests.curvature.surfaces import Dense, brute_force, network, ragged_batches, rotated

SIDES = ("positive", "zero", "negative")


def contains(interval: MinimumRatio, truth: MinimumRatio) -> bool:
    assert truth.exact
    shares = [(getattr(interval, side), getattr(truth, side)) for side in SIDES]
    return all(found.low <= exact.low == exact.high <= found.high for found, exact in shares)


def consistent(ratio: MinimumRatio) -> bool:
    shares = [getattr(ratio, side) for side in SIDES]
    low, high = math.fsum(s.low for s in shares), math.fsum(s.high for s in shares)
    ordered = all(0 <= s.low <= s.high <= 1 for s in shares)
    points = all(s.low == s.high for s in shares)
    return ordered and low <= 1 + 1e-12 and high >= 1 - 1e-12 and (points or not ratio.exact)


def random_problem(seed: int) -> tuple[torch.Tensor, float, dict]:
    """A bulk, a graded one, two values, half of it zero, outliers over a flat bulk, signs over six decades."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (1,), generator=generator))

    size, kind = draw(2, 401), seed % 6
    truth = torch.randn(size, generator=generator, dtype=torch.float64)
    if kind == 1:
        truth = truth**5
    elif kind == 2:
        truth = truth.sign()
    elif kind == 3:
        truth[: size // 2] = 0
    elif kind == 4:
        truth *= 1e-3
        truth[: 1 + size // 50] = 5
    elif kind == 5:
        truth = truth.sign() * 10.0 ** (-6 * torch.rand(size, generator=generator, dtype=torch.float64))
    dtype = (torch.float32, torch.float64)[draw(0, 2)]
    truth = truth.to(dtype)
    exponent = 4 * torch.rand(1, generator=generator).item()
    options = {"steps": draw(1, 25), "probes": draw(1, 6), "seed": seed}
    return truth, 10**-exponent * truth.abs().max().item(), options


@pytest.mark.parametrize(("failure", "seeds"), [(1e-3, range(400)), (0.5, range(200))])
def test_intervals_contain_the_truth_in_random_problems(failure, seeds):
    """No more misses than stated, with four standard errors of room; at 0.5 there are some, so the test has power."""
    missed, narrow = 0, 0
    for seed in seeds:
        truth, tolerance, options = random_problem(seed)
        found = ratio_interval(quadratures(Dense(torch.diag(truth)), **options), len(truth), tolerance, failure)
        assert consistent(found) and found.failure == (0 if found.exact else failure)
        right = contains(found, ratio_of(truth.double(), tolerance))
        assert right or not found.exact
        missed += not right
        narrow += found.positive.high - found.positive.low < 0.5
    assert missed <= failure * len(seeds) + 4 * math.sqrt(failure * len(seeds))
    assert failure == 0.5 or missed <= 0.01 * len(seeds)
    assert (missed > 0) == (failure == 0.5)
    assert narrow > len(seeds) / 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_mass_of_a_start_is_always_between_the_bounds(dtype):
    """The part of the answer that no chance is in. Rounding moves the masses as eigenvectors do: by |E| / gap."""
    slack = 1e-3 if dtype == torch.float32 else 1e-9
    for seed in range(60):
        truth, _, options = random_problem(seed)
        truth = truth.to(dtype)
        generator = torch.Generator().manual_seed(seed)
        for rule in quadratures(Dense(torch.diag(truth)), **options):
            z = torch.randn(len(truth), generator=generator, dtype=torch.float64)
            scale = truth.abs().max().item()
            thresholds = [0.0, *(scale * torch.linspace(-1.1, 1.1, 12)).tolist(), *rule.nodes[:3].tolist()]
            for x in thresholds:
                low, high = mass_below(rule, x)
                inside, edge = (z[truth.double() < x], z[truth.double() <= x])
                assert low - slack <= inside.square().sum().item() / rule.square
                assert edge.square().sum().item() / rule.square <= high + slack
                assert 0 <= low <= high <= 1


def rule_of(nodes: torch.Tensor, weights: torch.Tensor, steps: int) -> Quadrature:
    """`steps` Lanczos steps on a stored measure."""
    krylov = [weights.sqrt()]
    for _ in range(steps):
        krylov.append(nodes * krylov[-1])
    q, r = torch.linalg.qr(torch.stack(krylov, dim=1))
    q = q * r.diagonal().sign()
    projected = q.T @ (nodes[:, None] * q)
    alphas, betas = projected.diagonal()[:steps].clone(), projected.diagonal(1)[:steps].clone()
    return Quadrature(alphas, betas, *gauss(alphas, betas[:-1]), square=1.0, rounding=0.0, closed=False)


def test_the_bounds_are_reached_by_the_measure_with_a_node_there():
    """k + 1 points, one of them x, are the Radau rule: what is left of x is the lower bound, and x itself the gap."""
    nodes = torch.tensor([-1.0, -0.2, 0.1, 0.7, 2.0], dtype=torch.float64)
    weights = torch.tensor([0.1, 0.2, 0.3, 0.25, 0.15], dtype=torch.float64)
    rule = rule_of(nodes, weights, steps=4)
    for index, x in enumerate(nodes.tolist()):
        low, high = mass_below(rule, x)
        assert low == pytest.approx(weights[:index].sum().item(), abs=1e-9)
        assert high == pytest.approx(weights[: index + 1].sum().item(), abs=1e-9)


@pytest.mark.parametrize("steps", [3, 30])  # eigensolvers change their method at 26 rows
def test_at_a_ritz_value_the_bounds_are_those_of_the_gauss_rule(steps):
    """There the Radau rule has a node at infinity. Far from all nodes nothing, or everything, is left of x."""
    (rule,) = quadratures(Dense(torch.diag(torch.linspace(-1, 1, 300).double())), probes=1, steps=steps)
    for index, x in enumerate(rule.nodes.tolist()):
        for near in (x, x + 1e-15, x - 1e-12, x + 1e-10):
            left, at = _radau(rule, near)
            assert left == pytest.approx(rule.weights[:index].sum().item(), abs=1e-7)
            assert at == pytest.approx(rule.weights[index].item(), abs=1e-7)
    assert mass_below(rule, -50.0)[1] < 1e-6 and mass_below(rule, 50.0)[0] > 1 - 1e-6


def test_one_step_is_chebyshev_s_inequality():
    """Mean 0 and variance 1: mass of at most 1 / (1 + x^2) at x or beyond (Cantelli)."""
    rule = Quadrature(*(torch.tensor([v]).double() for v in (0.0, 1.0, 0.0, 1.0)), 1.0, 0.0, False)
    low, high = mass_below(rule, -3.0)
    assert (low, high) == (0.0, pytest.approx(0.1))
    low, high = mass_below(rule, 3.0)
    assert (low, high) == (pytest.approx(0.9), pytest.approx(1.0))


def test_a_full_run_is_exact():
    truth = torch.cat([torch.linspace(-1, -0.1, 7), torch.linspace(-1e-3, 1e-3, 10), torch.linspace(0.2, 3, 13)])
    for dtype in (torch.float32, torch.float64):
        found = ratio_interval(quadratures(Dense(rotated(truth).to(dtype)), probes=1, steps=99), 30, 1e-2)
        assert found == ratio_of(truth, 1e-2) and found.exact and found.failure == 0
        assert found.positive.low == 13 / 30


def test_multiplicities_are_not_seen_but_bounded():
    """Two values, 30 and 90 times: the space closes at once and the masses are exact, the counts are not."""
    truth = torch.cat([torch.full((30,), -1.0), torch.full((90,), 1.0)])
    rules = quadratures(Dense(torch.diag(truth)), probes=10)
    found = ratio_interval(rules, 120, 0.1)
    assert all(len(rule.nodes) == 2 and rule.closed for rule in rules)
    assert contains(found, ratio_of(truth, 0.1)) and not found.exact
    assert 0 < found.positive.high - found.positive.low < 0.2 and found.zero.low == 0
    exact = ratio_interval(quadratures(Dense(torch.eye(9)), probes=2), 9, 0.1)
    assert exact.negative.high == 0 and exact.positive.high == 1 and not exact.exact


def test_a_single_negative_eigenvalue_is_never_lost():
    """Its mass, 1 / 2000, is too little for chance to tell; one Ritz value left of -tolerance proves it."""
    truth = torch.cat([torch.linspace(0.1, 1, 1999, dtype=torch.float64), torch.tensor([-2.0])])
    found = ratio_interval(quadratures(Dense(torch.diag(truth)), probes=2, steps=20), 2000, 1e-3)
    assert found.negative.low == 1 / 2000 and found.negative.high < 0.02
    assert contains(found, ratio_of(truth, 1e-3))


def test_the_interval_shrinks_to_the_truth():
    truth = torch.cat([torch.full((600,), 1e-5), torch.linspace(0.5, 1, 300), -torch.linspace(0.5, 1, 100)]).double()
    widths = []
    for probes, steps in ((2, 5), (8, 20), (64, 40)):
        found = ratio_interval(quadratures(Dense(torch.diag(truth)), probes=probes, steps=steps), 1000, 1e-2)
        assert contains(found, ratio_of(truth, 1e-2)) and consistent(found)
        widths.append(found.positive.high - found.positive.low)
    assert widths[0] > 2 * widths[1] > 4 * widths[2] and widths[2] < 0.04


def test_the_hessian_of_a_network():
    model, batches = network(), ragged_batches()
    truth = torch.linalg.eigvalsh(brute_force(model, batches)[2])
    for dtype in (torch.float32, torch.float64):
        products = HessianProducts(Objective(model, cross_entropy, batches, dtype=dtype))
        for tolerance in (1e-4, 1e-2):
            exact = ratio_of(truth, tolerance * truth[-1].item())
            assert exact_ratio(products, exact.tolerance) == exact
            for steps, seed in ((5, 0), (15, 1), (40, 2)):
                found = ratio_interval(
                    quadratures(products, probes=3, steps=steps, seed=seed), len(truth), exact.tolerance
                )
                assert consistent(found) and contains(found, exact)


def test_exact_by_inertia_and_by_eigenvalues():
    truth = torch.cat([torch.linspace(-1, -0.5, 5), torch.zeros(10), torch.linspace(0.5, 3, 25)])
    for matrix in (rotated(truth), Dense(rotated(truth)), Dense(rotated(truth).float())):
        found = exact_ratio(matrix, 1e-3)
        assert found == ratio_of(truth, 1e-3) and found.exact and consistent(found)
        assert [getattr(found, side).low for side in SIDES] == [25 / 40, 10 / 40, 5 / 40]
    assert exact_ratio(torch.zeros(3, 3), 0.0).zero.low == 1
    assert ratio_of(torch.tensor([1.0, -1.0, 0.5]), 1.0).zero.low == 1  # the edge belongs to zero


def test_the_tolerance_is_raised_to_rounding():
    singular = rotated(torch.cat([torch.zeros(20), torch.linspace(0.5, 3, 20)]))
    found = exact_ratio(singular)
    assert (found.zero.low, found.positive.low) == (0.5, 0.5) and 0 < found.tolerance < 1e-10
    noisy = Dense(singular + 1e-5 * torch.randn(40, 40, generator=torch.Generator().manual_seed(0)))
    assert exact_ratio(noisy).tolerance > 1e-5


def test_json():
    answer = ratio_of(torch.tensor([1.0, -1.0]), 0.1).to_dict()
    half = {"low": 0.5, "high": 0.5}
    assert answer == {
        "positive": half,
        "zero": {"low": 0.0, "high": 0.0},
        "negative": half,
        "tolerance": 0.1,
        "exact": True,
        "failure": 0.0,
    }
    assert json.loads(json.dumps(answer, allow_nan=False)) == answer


RULES = quadratures(Dense(torch.diag(torch.linspace(-1, 1, 9))), probes=1, steps=3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ratio_interval(RULES, 9, -1.0), r"(?s)tolerance of 0 or more, got -1\.0"),
        (lambda: ratio_of(torch.ones(2), math.nan), r"(?s)tolerance of 0 or more, got nan"),
        (lambda: ratio_interval([], 9, 0.1), r"(?s)at least one rule, got none.*quadratures"),
        (lambda: ratio_interval(RULES, 9, 0.1, 1.0), r"(?s)probability between 0 and 1, got 1\.0.*failure"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(InputError, match=message):
        call()
