"""F1: why classifiers are not trained by the squared error of the softmax."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from phoneme.lab.bench import Bench
from phoneme.lab.descent import Loss, descend, score
from phoneme.lab.experiment import Experiment, Measured
from phoneme.lab.pictures import Line, Panel, Path, Picture, Surface
from phoneme.lab.rules import Claim, Rule
from phoneme.losses import cross_entropy, mse_on_softmax

THIRD, REACH = -1000.0, 10.0  # of the lecture: y3, and the range of y1 and y2; class 1 is right
START = (-10.0, 10.0)  # sure of class 2
GRID = 41
RATE_ON_SURFACE, STEPS_ON_SURFACE = 1.0, 60
FRAMES, BATCH = 4096, 128
RATES = (0.1, 0.5, 2.5)  # of plain descent: the best one of each training, by its training accuracy
SURE = 20.0  # logits between START's two classes


def surface_loss(loss: Loss, points: Float[Tensor, "point 2"]) -> Float[Tensor, " point"]:
    """The loss of three classes at (y1, y2, -1000), the first one right, for each point (y1, y2)."""
    right = torch.zeros(1, dtype=torch.int64)
    third = points.new_full((1,), THIRD)
    return torch.stack([loss(torch.cat([point, third])[None], right) for point in points])


def gradient_at(loss: Loss, point: tuple[float, float]) -> Float[Tensor, "2"]:
    """By (y1, y2), in float64."""
    logits = torch.tensor([point], dtype=torch.float64, requires_grad=True)
    return torch.autograd.grad(surface_loss(loss, logits).sum(), logits)[0][0]


def slide(loss: Loss) -> Float[Tensor, "step 2"]:
    """Plain descent on the surface, from START."""
    point, path = torch.tensor(START, dtype=torch.float64), []
    for _ in range(STEPS_ON_SURFACE + 1):
        path.append(point)
        point = point - RATE_ON_SURFACE * gradient_at(loss, tuple(point.tolist()))
    return torch.stack(path)


def surely_wrong(model: nn.Module, wrong: int) -> nn.Module:
    """The same network, sure of one class whatever it hears: far from the answer."""
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        last.bias[wrong] += SURE
    return model


def measure(bench: Bench, squared: Loss = mse_on_softmax, steps: int | None = None) -> Measured:
    """`squared` is the loss that cross-entropy is compared with."""
    losses = {"cross-entropy": cross_entropy, "squared error": squared}
    steps = steps or bench.choose(300, 1000)
    accuracy: dict[str, list[float]] = {}
    curves: dict[str, list[list[float]]] = {}
    every = max(1, steps // 20)
    for seed in bench.track(bench.seeds, "losses"):
        train, val = bench.speech.train(FRAMES, seed), bench.speech.val(FRAMES // 2, seed)
        rarest = int(torch.bincount(train.targets, minlength=bench.speech.classes).argmin())
        for name, loss in losses.items():
            for start in ("usual start", "confidently wrong"):
                best = None
                for rate in RATES:
                    model = bench.model(seed)
                    if start == "confidently wrong":
                        surely_wrong(model, rarest)
                    curve: list[float] = []

                    def look(step: int, model=model, curve=curve, val=val) -> None:
                        if step % every == 0:
                            curve.append(score(model, val).accuracy)

                    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
                    descend(model, train, optimizer, steps=steps, batch_size=BATCH, seed=seed, loss=loss, watch=look)
                    reached = (score(model, train).accuracy, score(model, val).accuracy, curve)
                    best = max(best, reached, key=lambda r: r[0]) if best else reached
                key = f"{name}, {start}"
                accuracy.setdefault(key, []).append(best[1])
                curves.setdefault(key, []).append(best[2])
    far = zip(accuracy["cross-entropy, confidently wrong"], accuracy["squared error, confidently wrong"], strict=True)
    slopes = {name: gradient_at(loss, START).abs().max().item() for name, loss in losses.items()}
    return Measured(
        effects={
            "squared_slope": [slopes["squared error"]],
            "entropy_slope": [slopes["cross-entropy"]],
            "gain_from_far": [entropy - other for entropy, other in far],
        },
        pictures=(_surfaces(losses), _trainings(curves, every)),
        numbers={"validation_accuracy": accuracy, "slopes_at_start": slopes, "updates": steps, "rates": RATES},
    )


def _surfaces(losses: dict[str, Loss]) -> Picture:
    axis = torch.linspace(-REACH, REACH, GRID, dtype=torch.float64)
    second, first = torch.meshgrid(axis, axis, indexing="ij")
    panels, ends = [], {}
    for name, loss in losses.items():
        values = surface_loss(loss, torch.stack([first.flatten(), second.flatten()], 1)).view(GRID, GRID)
        path = slide(loss)
        ends[name] = (path[-1] - path[0]).norm().item()
        trace = Path(f"{STEPS_ON_SURFACE} steps of descent", path[:, 0].tolist(), path[:, 1].tolist())
        panels.append(
            Panel(
                "y₁ (the right class)",
                "y₂",
                (Surface(axis.tolist(), axis.tolist(), values.tolist(), "loss"), trace),
                title=f"{name}, y₃ = {THIRD:g}",
            )
        )
    message = (
        f"From ({START[0]:g}, {START[1]:g}), confidently wrong, descent goes {ends['cross-entropy']:.1f} far on the "
        f"cross-entropy and {ends['squared error']:.1g} on the squared error"
    )
    return Picture("surfaces", message, panels)


def _trainings(curves: dict[str, list[list[float]]], every: int) -> Picture:
    lines = [Line(name, [every * k for k in range(len(values[0]))], values) for name, values in curves.items()]
    last = {name: sum(v[-1] for v in values) / len(values) for name, values in curves.items()}
    message = (
        f"A speech classifier that starts confidently wrong reaches {last['cross-entropy, confidently wrong']:.0%} by "
        f"cross-entropy, {last['squared error, confidently wrong']:.0%} by squared error"
    )
    return Picture("trainings", message, (Panel("update", "validation accuracy", lines),))


EXPERIMENT = Experiment(
    name="loss_surfaces",
    title="Squared error and cross-entropy behind a softmax",
    claims={
        "F1": Claim(
            says="With softmax, the squared error is flat far from the answer and the cross-entropy is not. Three "
            "classes, y₃ = −1000: at (−10, 10) with class 1 right the slope is ~1e-8 and ~1.",
            refuted_by="Other slopes; or a confidently wrong classifier that learns as well by the squared error.",
        )
    },
    rules=(
        Rule("F1", "squared_slope", "largest slope of the squared error at (−10, 10)", 3e-9, 3e-8, exact=True),
        Rule("F1", "entropy_slope", "largest slope of the cross-entropy at (−10, 10)", 0.9, 1.1, exact=True),
        Rule("F1", "gain_from_far", "validation accuracy by cross-entropy minus by squared error", above=0.05),
    ),
    measure=measure,
)
