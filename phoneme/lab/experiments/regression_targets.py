"""F3: what becomes of a classifier that is trained to say the number of the class?"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from phoneme.lab.bench import Bench
from phoneme.lab.descent import descend, score
from phoneme.lab.experiment import Experiment, Measured
from phoneme.lab.pictures import Bars, Panel, Picture
from phoneme.lab.rules import Claim, Rule
from phoneme.lab.speech import Frames
from phoneme.losses import cross_entropy

RATE, BATCH = 1e-3, 128  # of Adam: its authors' rate
FRAMES = 4096


class ClassNumber(nn.Module):
    """A network whose first output is the number of the class; as logits, minus the distance to each number."""

    def __init__(self, network: nn.Module, classes: int):
        super().__init__()
        self.network = network
        self.register_buffer("numbers", torch.arange(classes, dtype=torch.float32))

    def forward(self, windows: Float[Tensor, "batch context coeff"]) -> Float[Tensor, "batch classes"]:
        said = self.network(windows)[:, :1] + (len(self.numbers) - 1) / 2  # starts in the middle
        return -(said - self.numbers).abs()


def squared_distance(logits: Float[Tensor, "batch classes"], targets: Int64[Tensor, "batch"]) -> Float[Tensor, ""]:
    """Mean of (said number - class number)^2."""
    return logits.gather(1, targets[:, None]).square().mean()


def by_likeness(frames: Frames, classes: int) -> Int64[Tensor, " classes"]:
    """A number for each class such that classes with similar frames have near numbers.

    They are sorted along the first principal component of their mean centre frames; absent ones come last.
    """
    centres = frames.inputs[:, frames.inputs.shape[1] // 2]
    counts = torch.bincount(frames.targets, minlength=classes)
    means = torch.zeros(classes, centres.shape[1], device=centres.device).index_add_(0, frames.targets, centres)
    means = means / counts.clamp(min=1)[:, None]
    there = means[counts > 0]
    _, _, axes = torch.linalg.svd(there - there.mean(0), full_matrices=False)
    place = torch.where(counts > 0, means @ axes[0], torch.inf)
    return place.argsort(stable=True).argsort()


def measure(bench: Bench, steps: int | None = None, as_numbers: bool = True) -> Measured:
    """`as_numbers` False trains every classifier by cross-entropy: then the numbering cannot matter."""
    steps = steps or bench.choose(1200, 3000)
    speech = bench.speech
    found: dict[str, list[float]] = {"classes": [], "alike": [], "any": []}
    symmetry = []
    for seed in bench.track(bench.seeds, "class numbers"):
        train, val = speech.train(FRAMES, seed), speech.val(FRAMES, seed)
        anyhow = torch.randperm(speech.classes, generator=torch.Generator().manual_seed(seed)).to(bench.device)
        numberings = {"alike": by_likeness(train, speech.classes), "any": anyhow}

        def fit(model: nn.Module, loss: Callable, numbers: Tensor | None, seed=seed, train=train, val=val):
            frames = [f if numbers is None else Frames(f.inputs, numbers[f.targets]) for f in (train, val)]
            optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
            losses = descend(model, frames[0], optimizer, steps=steps, batch_size=BATCH, seed=seed, loss=loss).losses
            return score(model, frames[1]).accuracy, losses

        accuracy, losses = fit(bench.model(seed), cross_entropy, None)
        found["classes"].append(accuracy)
        renumbered = fit(_renumbered(bench.model(seed), anyhow), cross_entropy, anyhow)[1]
        symmetry.append((losses - renumbered)[:20].abs().max().item())
        for name, numbers in numberings.items():
            model = bench.model(seed)
            if as_numbers:
                accuracy, _ = fit(ClassNumber(model, speech.classes).to(bench.device), squared_distance, numbers)
            else:
                accuracy, _ = fit(_renumbered(model, numbers), cross_entropy, numbers)
            found[name].append(accuracy)
    pairs = list(zip(found["classes"], found["alike"], found["any"], strict=True))
    labels = ("one output a class,\ncross-entropy", "one number,\nlike classes near", "one number,\nany order")
    message = "A network that says the number of the class is right less often, and depends on how they are numbered"
    picture = Picture(
        "accuracy",
        message if as_numbers else "By cross-entropy, however the classes are numbered",
        (Panel("", "validation accuracy", (Bars(labels, [found[name] for name in ("classes", "alike", "any")]),)),),
    )
    return Measured(
        effects={
            "gain_of_classes": [classes - alike for classes, alike, _ in pairs],
            "order_matters": [alike - other for _, alike, other in pairs],
            "softmax_ignores_order": [max(symmetry)],
        },
        pictures=(picture,),
        numbers={"validation_accuracy": found, "updates": steps, "frames": FRAMES},
    )


def _renumbered(model: nn.Module, numbers: Int64[Tensor, " classes"]) -> nn.Module:
    """The same network with its outputs in the order of the new numbers."""
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    order = numbers.argsort()
    with torch.no_grad():
        last.weight.copy_(last.weight[order].clone())
        last.bias.copy_(last.bias[order].clone())
    return model


EXPERIMENT = Experiment(
    name="regression_targets",
    title="Class numbers as regression targets",
    claims={
        "F3": Claim(
            says="Class numbers as regression targets invent an order that is not there: such a network classifies "
            "worse, and how well depends on the numbering, which means nothing to one output a class.",
            refuted_by="As many frames right with numbers as with classes, or the same number in any order.",
        )
    },
    rules=(
        Rule("F3", "gain_of_classes", "validation accuracy of one output a class, minus of one number", above=0.05),
        Rule("F3", "order_matters", "accuracy with like classes at near numbers, minus in any order", above=0.01),
        Rule(
            "F3",
            "softmax_ignores_order",
            "largest difference of 20 losses when the outputs of a softmax are renumbered",
            below=1e-3,
            exact=True,
        ),
    ),
    measure=measure,
)
