"""B6: are local minima rare? Loss against minimum ratio of the critical points of small networks."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from scipy.stats import spearmanr

from phoneme.lab.bench import Bench
from phoneme.lab.critical import Reached, loss_of, reach
from phoneme.lab.experiment import Experiment, Measured
from phoneme.lab.pictures import Panel, Picture, Points
from phoneme.lab.rules import Claim, Rule
from phoneme.lab.small import Problem, descents, little_speech, sinc

# Without weight decay the weights of most of these networks grow without end, and their critical points are at
# infinity. It is part of the loss that is plotted.
WIDTHS = {"sinc": (5, 5), "speech": (4, 4)}
DECAY = {"sinc": 3e-4, "speech": 3e-3}
UPDATES, RATE = (0, 10, 30, 100, 300), 1e-2  # of Adam before the search: starts at all heights of the surface
SEARCH = 400  # updates at most
LEAST_POINTS = 5  # of a seed: a rank correlation of fewer says nothing


@dataclass(frozen=True)
class Run:
    """A search, where it began, and whether for any critical point or downhill."""

    reached: Reached
    random_start: bool
    goal: str

    @property
    def ratio(self) -> float:
        return self.reached.shares().positive.low


def search(problem: Problem, widths: tuple[int, ...], decay: float, inits: Iterable[int]) -> list[Run]:
    """From random weights and from points of descents to critical points of any index; from the weights to minima."""
    objectives = [problem.objective(widths, init, decay) for init in inits]
    one, starts = objectives[0], torch.stack([objective.point for objective in objectives])
    snapshots = descents(one, starts, UPDATES, RATE)  # [snapshot, run, n]
    with one.conditions():
        found = reach(loss_of(one), snapshots.flatten(end_dim=1), max_updates=SEARCH)
        downhill = reach(loss_of(one), starts, "minimum", max_updates=SEARCH)
    runs = [Run(reached, place < len(starts), "critical") for place, reached in enumerate(found)]
    return runs + [Run(reached, True, "minimum") for reached in downhill]


def correlation(runs: list[Run]) -> float:
    """Spearman's, of loss and minimum ratio, over the runs that arrived; 0 if all ratios are equal."""
    arrived = [run for run in runs if _there(run)]
    if len(arrived) < LEAST_POINTS:
        return math.nan
    ratios = [run.ratio for run in arrived]
    if len(set(ratios)) == 1:
        return 0.0
    return float(spearmanr(ratios, [run.reached.loss for run in arrived]).statistic)


def minima_share(runs: list[Run]) -> float:
    """Of the critical points that were reached from random weights by searches for any: how many are minima?"""
    found = [run.reached.index == 0 for run in runs if run.random_start and run.goal == "critical" and _there(run)]
    return sum(found) / len(found) if found else math.nan


def _there(run: Run) -> bool:
    return run.reached.converged


def measure(bench: Bench, hidden: bool = True, count: int | None = None) -> Measured:
    """`hidden` False leaves out the hidden layers: with a convex loss every critical point is the minimum.

    `count` is the number of random weights a seed and task.
    """
    count = count or bench.choose(3, 5)
    tasks: dict[str, list[list[Run]]] = {task: [] for task in WIDTHS}
    for seed in bench.track(bench.seeds, "critical points"):
        for task, problem in (("sinc", sinc(bench.device)), ("speech", little_speech(bench, seed))):
            inits = range(seed * count, (seed + 1) * count)
            tasks[task].append(search(problem, WIDTHS[task] if hidden else (), DECAY[task], inits))
    pairs = list(zip(tasks["sinc"], tasks["speech"], strict=True))
    return Measured(
        effects={
            "sinc_correlation": [correlation(runs) for runs in tasks["sinc"]],
            "speech_correlation": [correlation(runs) for runs in tasks["speech"]],
            "minima_share": [minima_share([*first, *second]) for first, second in pairs],
        },
        pictures=(_picture(tasks),),
        numbers={
            task: {**_summary(_all(rows), DECAY[task]), "correlation_without_descents": _without_descents(rows)}
            for task, rows in tasks.items()
        },
    )


def _without_descents(rows: list[list[Run]]) -> float:
    """The correlation over all seeds of what searches for any critical point found: no minimum is there by choice."""
    return correlation([run for run in _all(rows) if run.goal == "critical"])


def _all(rows: list[list[Run]]) -> list[Run]:
    return [run for runs in rows for run in runs]


def _summary(runs: list[Run], decay: float) -> dict[str, object]:
    """How many arrived, where the others stand, and what was found."""
    arrived = [run for run in runs if _there(run)]
    lost = [run for run in runs if not _there(run)]
    return {
        "parameters": len(runs[0].reached.point),
        "weight_decay": decay,
        "runs": len(runs),
        "arrived": len(arrived),
        "stuck_at_gradient_flat_points": sum(run.reached.flat_share > 0.5 for run in lost),
        "out_of_updates_or_steps": sum(run.reached.flat_share <= 0.5 for run in lost),
        "points": [
            {"loss": run.reached.loss, "minimum_ratio": run.ratio, "index": run.reached.index, "goal": run.goal}
            for run in arrived
        ],
    }


def _picture(tasks: dict[str, list[list[Run]]]) -> Picture:
    panels, minima, found, points = [], 0, 0, 0
    for task, rows in tasks.items():
        runs = [run for run in _all(rows) if _there(run)]
        of_any = [run for run in runs if run.goal == "critical"]
        at_random = [run for run in of_any if run.random_start]
        minima, found = minima + sum(run.reached.index == 0 for run in at_random), found + len(at_random)
        points += len(of_any)
        down = [run for run in runs if run.goal == "minimum"]
        marks = [
            Points(label, [run.ratio for run in chosen], [run.reached.loss for run in chosen])
            for label, chosen in (("gradient norm minimised", of_any), ("loss minimised", down))
        ]
        size = len(_all(rows)[0].reached.point)
        name = {"sinc": "sin(5πx)/(5πx)", "speech": "speech, 4 phones"}[task]
        unit = "squared error" if task == "sinc" else "cross-entropy"
        title = f"{name}: {size} parameters"
        panels.append(
            Panel("minimum ratio (share of positive eigenvalues)", f"{unit} + weight decay", marks, title=title)
        )
    message = (
        f"By minimising the gradient norm {points} critical points were found, {found} of them from random weights; "
        f"minima among these: {minima}"
    )
    return Picture("minimum_ratio", message, panels)


EXPERIMENT = Experiment(
    name="minimum_ratio",
    title="Are local minima rare?",
    claims={
        "B6": Claim(
            says="Critical points with a high loss are saddles: the higher the loss, the smaller the share of positive "
            "eigenvalues. Minima are rare among the critical points, and have a low loss.",
            refuted_by="Minima at every height of the loss, or most critical points that are found without going "
            "downhill being minima.",
        )
    },
    rules=(
        Rule("B6", "sinc_correlation", "rank correlation of loss and minimum ratio, sinc task", below=-0.5),
        Rule("B6", "speech_correlation", "rank correlation of loss and minimum ratio, speech", below=-0.5),
        Rule("B6", "minima_share", "share of minima among critical points found from random weights", below=0.25),
    ),
    measure=measure,
)
