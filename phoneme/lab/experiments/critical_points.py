"""B2, B3, B4: the ends of the spectrum with their bounds, Taylor's model, and the way out of a saddle."""

import math
from dataclasses import dataclass, field
from statistics import fmean, median

import torch
from jaxtyping import Float64
from torch import Tensor

from phoneme.curvature.ends import Ends, by_decomposition, by_lanczos, unit
from phoneme.curvature.escape import escape
from phoneme.curvature.hvp import HessianProducts
from phoneme.curvature.objective import Objective
from phoneme.curvature.taylor import START, Line, error_order
from phoneme.lab import pictures
from phoneme.lab.bench import Bench, Own
from phoneme.lab.critical import Reached, loss_of, reach
from phoneme.lab.descent import descend
from phoneme.lab.experiment import Experiment, Measured
from phoneme.lab.pictures import Panel, Picture, Points
from phoneme.lab.rules import Claim, Rule
from phoneme.lab.small import descents, little_speech
from phoneme.losses import cross_entropy
from phoneme.wording import digits

# Searched for critical points: as in minimum_ratio. 60 parameters.
HIDDEN, DECAY, UPDATES, RATE, INITS = (4, 4), 3e-3, (0, 30, 300), 1e-2, 2
DENSE = {"context": 1, "depth": 1, "width": 8, "activation": "tanh"}  # some hundred: the whole spectrum is known
SMOOTH = {"depth": 2, "width": 16}  # of Taylor's model
TRAINED = 100  # updates of Adam, of these two
FRAMES, DIRECTIONS = 256, 7
PRODUCTS, LONG, TOLERANCE, FAILURE = 45, 300, 1e-3, 1e-3  # of Lanczos; LONG where there is no other truth
RADII = tuple(START * 2.0**-k for k in range(10))  # of max(|theta|, 1)


@dataclass
class Found:
    """What was seen of one seed."""

    missed: int = 0  # bounds that do not hold
    wrong_signs: int = 0
    bounds: list[float] = field(default_factory=list)  # claimed, and the errors that there were
    errors: list[float] = field(default_factory=list)
    orders: list[float] = field(default_factory=list)
    radii: list[float] = field(default_factory=list)  # of `taylor_errors`
    taylor_errors: list[float] = field(default_factory=list)
    predicted: list[float] = field(default_factory=list)  # decreases out of saddles
    measured: list[float] = field(default_factory=list)
    gains: list[float] = field(default_factory=list)  # of the best step, as a share of the loss
    stayed: int = 0  # saddles that were not left


def lanczos_ends(objective: Objective, products: int, seed: int) -> Ends:
    """Both ends; it goes on until their signs are known, or the products are spent."""
    matrix = HessianProducts(objective)
    options = {"tolerance": TOLERANCE, "failure": FAILURE, "seed": seed}
    return by_lanczos(matrix, 1, max_products=products, needs_signs=lambda largest: True, **options)


def signs(ends: Ends) -> str:
    """What both ends say of a critical point."""
    if ends.lambda_min.lower > 0:
        return "minimum"
    if ends.lambda_max.upper < 0:
        return "maximum"
    return "saddle" if ends.lambda_min.upper < 0 < ends.lambda_max.lower else "undecided"


def hold(short: Ends, truth: Ends, found: Found, narrowed: float) -> None:
    """Hold the bounds of a short run against the truth, and its signs.

    Of either end: an eigenvalue within `bound` of the value (where all eigenvalues are known), and an interval that
    meets that of the truth.
    """
    for mine, true in ((short.lambda_min, truth.lambda_min), (short.lambda_max, truth.lambda_max)):
        low, high = (mine.value + narrowed * (end - mine.value) for end in (mine.lower, mine.upper))
        found.missed += int(low > true.upper or high < true.lower)
        if truth.eigenvalues is not None:
            error = float((truth.eigenvalues - mine.value).abs().min())
            found.missed += int(error > narrowed * mine.bound + true.bound)
            found.bounds.append(narrowed * mine.bound)
            found.errors.append(error)
    found.wrong_signs += int("undecided" not in (signs(short), signs(truth)) and signs(short) != signs(truth))


def follow_taylor(objective: Objective, found: Found, seed: int) -> None:
    """The error of Taylor's model along random directions, and how it grows."""
    generator = torch.Generator().manual_seed(seed)
    products = HessianProducts(objective)
    for _ in range(DIRECTIONS):
        direction = unit(torch.randn(objective.size, generator=generator, dtype=torch.float64)).to(objective.device)
        line = Line(objective, direction, float(direction @ products(direction[None])[0]))
        found.orders.append(error_order(line, START * line.extent) or math.nan)
        found.radii += [radius * line.extent for radius in RADII]
        found.taylor_errors += [line.error(radius * line.extent) for radius in RADII]


def leave(objective: Objective, direction: Float64[Tensor, " n"], found: Found, wrong_way: bool = False) -> None:
    """A step fixed in advance along negative curvature, against its prediction; and the best step."""
    curvature = float(direction @ HessianProducts(objective)(direction[None])[0])
    out = escape(objective, direction, -abs(curvature))
    line = Line(objective, out.direction, curvature)
    radius = START * line.extent
    predicted = -line.change(radius)
    found.predicted.append(abs(predicted) if wrong_way else predicted)
    found.measured.append(line.loss - line.measured(radius))
    found.gains.append((out.best_measured or 0.0) / abs(line.loss))
    found.stayed += int(not out.lowered)


def critical_points(bench: Bench, seed: int, hidden: tuple[int, ...]) -> tuple[Objective, list[Reached]]:
    """Of a tiny network on a little speech: of any index, and minima."""
    problem = little_speech(bench, seed)
    objectives = [problem.objective(hidden, INITS * seed + init, DECAY) for init in range(INITS)]
    starts = torch.stack([objective.point for objective in objectives])
    one = objectives[0]
    snapshots = descents(one, starts, UPDATES, RATE).flatten(end_dim=1)
    with one.conditions():
        found = reach(loss_of(one), snapshots) + reach(loss_of(one), starts, "minimum")
    return one, [reached for reached in found if reached.converged]


def trained(bench: Bench, seed: int, context: int, **changes: object) -> Objective:
    """A small network after some updates, in float64."""
    model = bench.model(seed, context=context, **changes)
    frames = bench.open_speech(context).train(FRAMES, seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    descend(model, frames, optimizer, steps=TRAINED, batch_size=None, seed=seed)
    return Objective(model, cross_entropy, [(frames.inputs, frames.targets)], dtype=torch.float64)


def look_at_small(
    bench: Bench, seed: int, activation: str, hidden: tuple[int, ...], narrowed: float, wrong_way: bool
) -> Found:
    """Networks whose whole spectrum is known."""
    found = Found()
    one, points = critical_points(bench, seed, hidden)
    objectives = [one.at(reached.point) for reached in points] + [trained(bench, seed, **DENSE)]
    for objective in objectives:
        truth = by_decomposition(HessianProducts(objective), 1)
        hold(lanczos_ends(objective, PRODUCTS, seed), truth, found, narrowed)
        if objective is not objectives[-1] and truth.lambda_min.upper < 0:
            leave(objective, truth.up if wrong_way else truth.down, found, wrong_way)
    smooth = trained(bench, seed, bench.network["context"], **SMOOTH, activation=activation)
    follow_taylor(smooth, found, seed)
    return found


def look_at_own(own: Own, seed: int) -> Found:
    """The user's network on other frames for each seed; a long run from another start is the truth."""
    found = Found()
    objective = Objective(own.model, own.loss, own.batches("train", FRAMES, seed), dtype=torch.float64)
    short, truth = lanczos_ends(objective, PRODUCTS, seed), lanczos_ends(objective, LONG, seed + 1000)
    hold(short, truth, found, 1.0)
    if truth.lambda_min.value + truth.lambda_min.bound < 0:
        leave(objective, unit(truth.down), found)
    follow_taylor(objective, found, seed)
    return found


def measure(
    bench: Bench,
    activation: str = "tanh",
    hidden: tuple[int, ...] = HIDDEN,
    narrowed: float = 1.0,
    wrong_way: bool = False,
) -> Measured:
    """Where the claims are false: `activation` "relu" has no third derivative; `hidden` () no saddle; `narrowed` 0
    pretends that there is no error; `wrong_way` steps along the largest eigenvalue.
    """
    rows = []
    for seed in bench.track(bench.seeds, "critical points"):
        if bench.checkpoint is not None:
            rows.append(look_at_own(bench.checkpoint, seed))
        else:
            rows.append(look_at_small(bench, seed, activation, hidden, narrowed, wrong_way))
    return Measured(
        effects={
            "missed": [row.missed for row in rows],
            "wrong_signs": [row.wrong_signs for row in rows],
            "order": [median(row.orders) for row in rows],  # along some directions the third derivative is next to 0
            "ratio": [_ratio(row) for row in rows],
            "gain": [fmean(row.gains) if row.gains else math.nan for row in rows],
        },
        pictures=(_picture(rows),),
        numbers={
            "points": sum(len(row.errors) // 2 for row in rows),
            "saddles": sum(len(row.measured) for row in rows),
            "saddles_not_left": sum(row.stayed for row in rows),
            "orders": [row.orders for row in rows],
            "gains": [row.gains for row in rows],
        },
    )


def _ratio(row: Found) -> float:
    """Measured over predicted decrease, the mean over the saddles of a seed."""
    pairs = zip(row.measured, row.predicted, strict=True)
    return fmean(m / p for m, p in pairs) if row.measured else math.nan


def _picture(rows: list[Found]) -> Picture:
    bounds, errors = _points(rows, "bounds", "errors")
    radii, taylor = _points(rows, "radii", "taylor_errors")
    predicted, measured = _points(rows, "predicted", "measured")
    order = median(value for row in rows for value in row.orders)
    panels = [
        Panel(
            "step length",
            "error of Taylor's model",
            (Points("random directions", radii, taylor), _power(radii, taylor, 3, "grows as the cube")),
            x_log=True,
            y_log=True,
            title="Taylor (B3)",
        )
    ]
    message = f"The error of Taylor's model grows as the step to the power {digits(order)}"
    if bounds:
        marks = (
            Points("largest or smallest eigenvalue", bounds, errors),
            _power(bounds, bounds, 1, "the bound itself"),
        )
        panels.insert(0, Panel("error bound", "error", marks, x_log=True, y_log=True, title="Lanczos (B2)"))
        missed = sum(row.missed for row in rows)
        message = f"{missed} of {2 * len(bounds)} bounds of eigenvalues are missed; {message[0].lower()}{message[1:]}"
    if predicted:
        marks = (Points("a saddle", predicted, measured), _power(predicted, predicted, 1, "as predicted"))
        panels.append(Panel("predicted decrease", "measured decrease of the loss", marks, title="escape (B4)"))
        ratio = fmean(m / p for m, p in zip(measured, predicted, strict=True))
        message += f"; steps out of saddles bring {digits(ratio)} of what they promise"
    return Picture("checks", message, panels)


def _points(rows: list[Found], first: str, second: str) -> tuple[list[float], list[float]]:
    """All points of both lists; an error of exactly 0 has no place on a logarithmic axis."""
    pairs = [pair for row in rows for pair in zip(getattr(row, first), getattr(row, second), strict=True)]
    kept = [pair for pair in pairs if 0 not in pair and all(map(math.isfinite, pair))]
    return [x for x, _ in kept], [y for _, y in kept]


def _power(x: list[float], y: list[float], power: int, label: str) -> pictures.Line:
    """y = c x^power through the middle of the points, or through them all."""
    if not x:
        return pictures.Line(label, [], [])
    level = torch.tensor([math.log(abs(b)) - power * math.log(abs(a)) for a, b in zip(x, y, strict=True)]).median()
    ends = [min(x), max(x)]
    return pictures.Line(label, ends, [math.exp(float(level)) * end**power for end in ends])


EXPERIMENT = Experiment(
    name="critical_points",
    title="Minimum or saddle, and the way out",
    claims={
        "B2": Claim(
            says="The extreme eigenvalues of the Hessian tell minima, maxima and saddles apart. Products with vectors "
            "find them, with error bounds that hold.",
            refuted_by="An eigenvalue outside its bound, or another verdict than by the whole spectrum.",
        ),
        "B3": Claim(
            says="L + gᵀs + ½ sᵀHs predicts the loss at a step s; on a smooth surface its error grows as the cube of "
            "the step.",
            refuted_by="Another power, as on a surface with kinks.",
        ),
        "B4": Claim(
            says="At a saddle a step along an eigenvector of negative curvature lowers the loss, by about ½ε²|λ|.",
            refuted_by="A loss that rises, or falls by something else.",
        ),
    },
    rules=(
        Rule("B2", "missed", "bounds of extreme eigenvalues that do not hold", below=0.5, exact=True),
        Rule("B2", "wrong_signs", "points called by another name than by the truth", below=0.5, exact=True),
        Rule(
            "B3",
            "order",
            "power with which Taylor's error grows, the median of random directions",
            above=2.8,
            below=3.2,
        ),
        Rule("B4", "ratio", "decrease at a step of 1 % of |θ| over the predicted one", above=0.8, below=1.2),
        Rule("B4", "gain", "share of the loss that the best step takes away", above=0.01),
    ),
    measure=measure,
    takes_checkpoint=True,
)
