"""E5: m is made of the past gradients and sigma too; does their quotient cancel?"""

from collections import deque

import torch
from jaxtyping import Float
from torch import Tensor, nn

from phoneme.lab.bench import Bench
from phoneme.lab.descent import descend, score
from phoneme.lab.experiment import Experiment, Measured
from phoneme.lab.pictures import Bars, Level, Line, Panel, Picture
from phoneme.lab.rules import Claim, Rule
from phoneme.lab.speech import Frames
from phoneme.optim.textbook import BETAS, Adam, GradientDescent, Momentum, RMSProp, Textbook

SIZES = (1e-4, 1.0, 1e4)  # of the gradients
SETTLED = 400  # updates, after which m has forgotten its start: 0.9^400 = 5e-19
BATCH, FRAMES = 128, 4096
RATE = 1e-3  # Kingma & Ba 2015
RECENT = 20  # updates: twice what m remembers, 1 / (1 - beta1) = 10
SHARES = 10  # parts of [0, 1] that the agreement of the signs is sorted into
CLEAR, WEAK = 0.5, 0.3  # correlations that one would call clear and weak
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


class Signs:
    """How well the signs of each parameter's last RECENT gradients agree: |mean of the signs|, from 0 to 1."""

    def __init__(self, model: nn.Module):
        self.model, self.seen = model, deque(maxlen=RECENT)

    def look(self, step: int) -> None:
        """To be called between the backward pass and the update."""
        self.seen.append(torch.cat([parameter.grad.sign().flatten() for parameter in self.model.parameters()]))

    def agreement(self) -> Float[Tensor, " n"]:
        return torch.stack(list(self.seen)).mean(0).abs()


def quotient(model: nn.Module, optimizer: Adam) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """|m| / sigma and sigma of every parameter after the last update, both with their bias corrected."""
    group = optimizer.param_groups[0]
    states = [optimizer.state[parameter] for parameter in model.parameters()]
    m = torch.cat([state["m"].flatten() for state in states]) / (1 - group["beta1"] ** states[0]["t"])
    v = torch.cat([state["v"].flatten() for state in states]) / (1 - group["beta2"] ** states[0]["t"])
    return m.abs() / v.sqrt(), v.sqrt()


def measure(bench: Bench, steps: int | None = None, beta1: float = BETAS[0]) -> Measured:
    """`beta1` 0 is Adam without momentum: then nothing keeps the direction."""
    steps = steps or bench.choose(400, 1000)
    rows = {"direction": [], "size": [], "curve": []}
    losses = {name: [] for name in ABLATION}
    for seed in bench.track(bench.seeds, "direction and size"):
        frames = bench.speech.train(FRAMES, seed)
        for name, value in _along_a_run(bench, frames, seed, steps, beta1).items():
            rows[name].append(value)
        for name, (kind, rates) in ABLATION.items():
            losses[name].append(min(_final_loss(bench, frames, seed, steps, kind, rate) for rate in rates))
    closed = {
        name: [settled_step(signs, size, beta1) for size in SIZES]
        for name, signs in (("one_sign", (1,)), ("alternating", (1, -1)))
    }
    return Measured(
        effects={**closed, "direction": rows["direction"], "size": rows["size"]},
        pictures=(_quotients(rows["curve"]), _ablation(losses)),
        numbers={
            "closed_form": {**closed, "sizes_of_the_gradients": SIZES},
            "final_training_loss_at_the_best_rate": losses,
            "rates": {name: rates for name, (_, rates) in ABLATION.items()},
            "updates": steps,
        },
    )


def _along_a_run(bench: Bench, frames: Frames, seed: int, steps: int, beta1: float) -> dict:
    """After a training with Adam: what |m| / sigma goes with, and its mean by the agreement of the signs."""
    model = bench.model(seed)
    optimizer, signs = Adam(model.parameters(), lr=RATE, betas=(beta1, BETAS[1])), Signs(model)
    descend(model, frames, optimizer, steps=steps, batch_size=BATCH, seed=seed, watch=signs.look)
    (ratio, sigma), agreement = quotient(model, optimizer), signs.agreement()
    alive = sigma > sigma.max() * 1e-6  # a dead unit has no gradients
    ratio, sigma, agreement = ratio[alive].double(), sigma[alive].double(), agreement[alive].double()
    part = (agreement * SHARES).long().clamp(max=SHARES - 1)
    counts = torch.bincount(part, minlength=SHARES)
    means = torch.bincount(part, weights=ratio, minlength=SHARES) / counts
    return {
        "direction": torch.corrcoef(torch.stack([ratio, agreement]))[0, 1].item(),
        "size": torch.corrcoef(torch.stack([ratio, sigma.log()]))[0, 1].abs().item(),
        "curve": means.tolist(),
    }


def _final_loss(bench: Bench, frames: Frames, seed: int, steps: int, kind: type[Textbook], rate: float) -> float:
    model = bench.model(seed)
    descend(model, frames, kind(model.parameters(), lr=rate), steps=steps, batch_size=BATCH, seed=seed)
    return score(model, frames).loss


def _quotients(curves: list[list[float]]) -> Picture:
    middles = [(place + 0.5) / SHARES for place in range(SHARES)]
    low, high = (sum(curve[place] for curve in curves) / len(curves) for place in (0, -1))
    message = f"m/σ is {low:.2f} where the signs of the gradients disagree and {high:.2f} where they agree"
    return Picture(
        "quotient",
        message,
        (
            Panel(
                f"agreement of the last {RECENT} signs, |mean|",
                "mean |m|/σ of the parameters (1 = a step of η)",
                (Line("Adam on speech", middles, curves), Level("all gradients the same", 1.0)),
            ),
        ),
    )


def _ablation(losses: dict[str, list[float]]) -> Picture:
    means = {name: sum(values) / len(values) for name, values in losses.items()}
    best = min(means, key=means.__getitem__)
    labels = [name.replace(" ", "\n") for name in losses]
    message = f"Direction (momentum), size (RMSProp), both (Adam), neither: {best} ends with the smallest loss"
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
            refuted_by="A step m/σ that does not depend on how well the signs agree, or one that depends on the size "
            "of the gradients.",
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
        Rule("E5", "direction", "on speech, correlation of |m|/σ with the agreement of the signs", above=CLEAR),
        Rule("E5", "size", "on speech, |correlation| of |m|/σ with ln σ, the size of the gradients", below=WEAK),
    ),
    measure=measure,
)
