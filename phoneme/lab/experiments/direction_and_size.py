"""E5: m is made of the past gradients and sigma too; does their quotient cancel?"""

import math

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from phoneme.lab.bench import Bench
from phoneme.lab.descent import descend, score
from phoneme.lab.experiment import Experiment, Measured
from phoneme.lab.pictures import Bars, Line, Panel, Picture
from phoneme.lab.rules import Claim, Rule
from phoneme.lab.speech import Frames
from phoneme.optim.textbook import BETAS, Adam, GradientDescent, Momentum, RMSProp, Textbook

SIZES = (1e-4, 1.0, 1e4)  # of the gradients
SETTLED = 400  # updates, after which m has forgotten its start: 0.9^400 = 5e-19
BATCH, FRAMES = 128, 4096
RATE = 1e-3  # Kingma & Ba 2015
ENTRIES = 2000  # parameters whose gradients are kept
THREEFOLD = math.log10(3)  # an effect that one would call one; gradients of equal sizes would give 19
WEAK = 0.3  # a correlation that one would call weak
SIGNS = {"one_sign": "made equal", "own": "as they are", "alternating": "made to alternate"}
ABLATION: dict[str, tuple[type[Textbook], tuple[float, ...]]] = {  # rates: a usual one, and three times less and more
    "plain descent": (GradientDescent, (0.1, 0.3, 1.0)),
    "momentum": (Momentum, (0.03, 0.1, 0.3)),
    "RMSProp": (RMSProp, (3e-4, 1e-3, 3e-3)),
    "Adam": (Adam, (3e-4, 1e-3, 3e-3)),
}


def settled_step(signs: tuple[int, ...], size: float, beta1: float = BETAS[0]) -> float:
    """The length of Adam's last step at the rate 1, after SETTLED gradients of this size and these signs in turn.

    m / sigma is 1 if they all have one sign. If they alternate, m = -beta1 m + (1 - beta1) g up to its sign, which
    leaves (1 - beta1) / (1 + beta1). The size is in m and in sigma, and cancels.

    >>> [round(settled_step(signs, 50.0), 6) for signs in ((1,), (1, -1))]  # 1 and 1 / 19
    [1.0, 0.052632]
    """
    theta = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = Adam([theta], lr=1.0, betas=(beta1, BETAS[1]), eps=1e-30)
    before = theta.detach().clone()
    for step in range(SETTLED):
        theta.grad = torch.full_like(theta, size * signs[step % len(signs)])
        before = theta.detach().clone()
        optimizer.step()
    return (theta.detach() - before).abs().item()


class Recorder:
    """The gradients of ENTRIES parameters, drawn by the seed, at each update: `watch` of a descent."""

    def __init__(self, model: nn.Module, seed: int):
        self.model, self.rows = model, []
        size = sum(parameter.numel() for parameter in model.parameters())
        drawn = torch.randperm(size, generator=torch.Generator().manual_seed(seed))[:ENTRIES]
        self.chosen = drawn.to(next(model.parameters()).device)

    def look(self, step: int) -> None:
        flat = torch.cat([parameter.grad.flatten() for parameter in self.model.parameters()])
        self.rows.append(flat[self.chosen])

    def gradients(self) -> Float64[Tensor, "step entry"]:
        """Without the parameters that never have one: those of dead units."""
        rows = torch.stack(self.rows).double().cpu()
        return rows[:, rows.abs().amax(0) > 0]


def with_signs(gradients: Float64[Tensor, "step entry"], signs: str) -> Float64[Tensor, "step entry"]:
    """Gradients of the same sizes, and so of the same sigma, with other signs, one of SIGNS."""
    if signs == "own":
        return gradients
    turns = torch.ones(len(gradients), 1, dtype=torch.float64)
    turns[1::2] = -1.0 if signs == "alternating" else 1.0
    return gradients.abs() * turns


def quotients(gradients: Float64[Tensor, "step entry"], beta1: float) -> Float64[Tensor, "step entry"]:
    """|m| / sigma, the length of Adam's step at the rate 1, when it meets these gradients."""
    theta = nn.Parameter(torch.zeros_like(gradients[0]))
    optimizer = Adam([theta], lr=1.0, betas=(beta1, BETAS[1]), eps=1e-30)
    places = [theta.detach().clone()]
    for row in gradients:
        theta.grad = row.clone()
        optimizer.step()
        places.append(theta.detach().clone())
    return torch.stack(places).diff(dim=0).abs()


def measure(bench: Bench, steps: int | None = None, beta1: float = BETAS[0]) -> Measured:
    """`beta1` 0 is the quotient without momentum: then the signs change nothing."""
    steps = steps or bench.choose(400, 1000)
    steps_by_signs: dict[str, list[list[float]]] = {signs: [] for signs in SIGNS}
    size, direction = [], []
    losses = {name: [] for name in ABLATION}
    for seed in bench.track(bench.seeds, "direction and size"):
        frames = bench.speech.train(FRAMES, seed)
        gradients = _of_a_run(bench, frames, seed, steps)
        found = {signs: quotients(with_signs(gradients, signs), beta1) for signs in SIGNS}
        for signs, lengths in found.items():
            steps_by_signs[signs].append(lengths.mean(1).tolist())
        late = {signs: lengths[steps // 2 :].mean(0) for signs, lengths in found.items()}
        direction.append((late["one_sign"].mean() / late["alternating"].mean()).log10().item())
        sizes = gradients.square().mean(0).log() / 2
        size.append(torch.corrcoef(torch.stack([late["own"], sizes]))[0, 1].abs().item())
        for name, (kind, rates) in ABLATION.items():
            losses[name].append(min(_final_loss(bench, frames, seed, steps, kind, rate) for rate in rates))
    closed = {
        name: [settled_step(signs, size, beta1) for size in SIZES]
        for name, signs in (("one_sign", (1,)), ("alternating", (1, -1)))
    }
    return Measured(
        effects={**closed, "direction": direction, "size": size},
        pictures=(_quotients(steps_by_signs), _ablation(losses)),
        numbers={
            "closed_form": {**closed, "sizes_of_the_gradients": SIZES},
            "final_training_loss_at_the_best_rate": losses,
            "rates": {name: rates for name, (_, rates) in ABLATION.items()},
            "updates": steps,
        },
    )


def _of_a_run(bench: Bench, frames: Frames, seed: int, steps: int) -> Float64[Tensor, "step entry"]:
    model = bench.model(seed)
    optimizer, recorder = Adam(model.parameters(), lr=RATE), Recorder(model, seed)
    descend(model, frames, optimizer, steps=steps, batch_size=BATCH, seed=seed, watch=recorder.look)
    return recorder.gradients()


def _final_loss(bench: Bench, frames: Frames, seed: int, steps: int, kind: type[Textbook], rate: float) -> float:
    model = bench.model(seed)
    descend(model, frames, kind(model.parameters(), lr=rate), steps=steps, batch_size=BATCH, seed=seed)
    return score(model, frames).loss


def _quotients(lengths: dict[str, list[list[float]]]) -> Picture:
    every = max(1, len(lengths["own"][0]) // 100)
    lines, late = [], {}
    for signs, rows in lengths.items():
        updates = list(range(0, len(rows[0]), every))
        lines.append(Line(f"signs {SIGNS[signs]}", updates, [row[::every] for row in rows]))
        late[signs] = sum(sum(row[len(row) // 2 :]) / len(row[len(row) // 2 :]) for row in rows) / len(rows)
    message = (
        f"Steps of {late['own']:.2f} η; with all signs made equal {late['one_sign']:.2f} η, "
        f"alternating {late['alternating']:.2f} η"
    )
    panel = Panel("update on speech", "mean |m|/σ of the parameters (step in units of η)", tuple(lines), y_log=True)
    return Picture("quotient", message, (panel,))


def _ablation(losses: dict[str, list[float]]) -> Picture:
    means = {name: sum(values) / len(values) for name, values in losses.items()}
    best = min(means, key=means.__getitem__)
    labels = [name.replace(" ", "\n") for name in losses]
    message = f"At the best rate of each, {best} ends with the smallest loss"
    return Picture(
        "ablation", message, (Panel("", "final training loss (nats)", (Bars(labels, list(losses.values())),)),)
    )


EXPERIMENT = Experiment(
    name="direction_and_size",
    title="Do momentum and σ cancel?",
    claims={
        "E5": Claim(
            says="m and σ are both made of past gradients and do not cancel: m is a mean with signs and keeps the "
            "direction, σ a mean of squares and only the size. Gradients of one sign give steps of η whatever their "
            "size; where the signs alternate almost nothing is left.",
            refuted_by="Steps m/σ that stay as long when the signs of the same gradients are changed, or that depend "
            "on the size of the gradients.",
        )
    },
    rules=(
        Rule(
            "E5",
            "one_sign",
            "|m|/σ after gradients of one sign, of size 1e-4, 1, 1e4",
            above=1 - 1e-6,
            below=1 + 1e-6,
            exact=True,
        ),
        Rule(
            "E5",
            "alternating",
            "|m|/σ after gradients of alternating signs: (1 − β₁)/(1 + β₁) = 1/19",
            above=1 / 19 - 1e-6,
            below=1 / 19 + 1e-6,
            exact=True,
        ),
        Rule(
            "E5",
            "direction",
            "gradients of a run on speech: log10 of the mean |m|/σ with signs made equal over made to alternate",
            above=THREEFOLD,
        ),
        Rule(
            "E5", "size", "|correlation| of a parameter's |m|/σ with ln of its gradients' size, on speech", below=WEAK
        ),
    ),
    measure=measure,
)
