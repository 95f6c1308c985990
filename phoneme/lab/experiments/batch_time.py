"""C1: what does a larger batch cost, in time an update and in time an epoch?"""

import time
from collections.abc import Callable, Sequence

import torch
from torch import nn

from phoneme.lab.bench import Bench
from phoneme.lab.experiment import Experiment, Measured
from phoneme.lab.pictures import Line, Panel, Picture
from phoneme.lab.rules import Claim, Rule
from phoneme.lab.speech import Frames
from phoneme.losses import cross_entropy
from phoneme.optim import make_optimizer
from phoneme.wording import digits

ONE, SMALL, MIDDLE = 1, 16, 256  # the batch sizes that the rules compare
ON_CPU = (ONE, 4, SMALL, 64, MIDDLE, 1024, 4096)
ON_ACCELERATOR = (*ON_CPU, 4**7, 4**8, 4**9, 4**10)  # where a thousand frames may still be free
FRAMES, EPOCH = 4096, 100_000  # frames that batches are drawn from; frames of the epoch in the picture
RATE = 1e-3  # so small that the weights stay what they are
BLOCK_S = 0.01  # a block of updates between two readings of the clock: long to a clock, short to what disturbs it
MOST_UPDATES = 100  # in a block
DRAWS = 4  # different batches of a size, taken in turn


def updates_of(
    model: nn.Module, frames: Frames, size: int, seed: int, one_by_one: bool = False
) -> Callable[[int], None]:
    """A function that makes so many updates of plain descent on batches of `size` frames, gathered each time.

    `one_by_one` adds up the gradients of single frames instead: the same update without anything in parallel.
    """
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randint(len(frames), (DRAWS, size), generator=generator).to(frames.targets.device)
    optimizer = make_optimizer(model.parameters(), name="sgd", lr=RATE)

    def run(count: int) -> None:
        for update in range(count):
            draw = draws[update % DRAWS]
            parts = draw.split(1 if one_by_one else size)
            optimizer.zero_grad()
            for part in parts:
                batch = frames.at(part)
                (cross_entropy(model(batch.inputs), batch.targets) / len(parts)).backward()
            optimizer.step()

    return run


def seconds_an_update(run: Callable[[int], None], count: int, device: torch.device) -> float:
    """Of a block of `count` updates, from a device that is idle until it is again."""
    _wait(device)
    start = time.perf_counter()
    run(count)
    _wait(device)
    return (time.perf_counter() - start) / count


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def times(runs: Sequence[Callable[[int], None]], device: torch.device, rounds: int) -> list[float]:
    """Seconds an update of each: the least of the rounds, in which all take turns, forth and back.

    What disturbs a measurement only adds to it. The first block warms up and says how long the others have to be.
    """
    least = []
    for run in runs:
        run(1)
        least.append(seconds_an_update(run, 2, device))
    counts = [min(max(int(BLOCK_S / seconds), 1), MOST_UPDATES) for seconds in least]
    places = list(range(len(runs)))
    for turn in range(rounds):
        for place in places if turn % 2 == 0 else places[::-1]:
            least[place] = min(least[place], seconds_an_update(runs[place], counts[place], device))
    return least


def measure(
    bench: Bench, sizes: Sequence[int] | None = None, one_by_one: bool = False, rounds: int | None = None
) -> Measured:
    """`sizes` have to contain 1, 16 and 256 and end in the largest. `one_by_one`: no frame beside another."""
    rounds = rounds or bench.choose(20, 60)
    sizes = list(sizes or (ON_CPU if bench.device.type == "cpu" else ON_ACCELERATOR))
    found = []
    for seed in bench.track(bench.seeds, "batch sizes"):
        frames = bench.speech.train(FRAMES, seed)
        # without a norm: BatchNorm refuses a batch of one
        model = bench.model(seed, norm="none").train()
        runs = [updates_of(model, frames, size, seed, one_by_one) for size in sizes]
        found.append(times(runs, bench.device, rounds))
    one, small, middle = (sizes.index(size) for size in (ONE, SMALL, MIDDLE))
    effects = {
        "update_of_16": [row[small] / row[one] for row in found],
        "growth_at_the_end": [row[-1] / row[-2] * sizes[-2] / sizes[-1] for row in found],
        "epoch_at_256": [row[middle] * ONE / (row[one] * MIDDLE) for row in found],
    }
    return Measured(
        effects=effects,
        pictures=(_picture(sizes, found, effects),),
        numbers={
            "batch_sizes": sizes,
            "milliseconds_an_update": [[1e3 * seconds for seconds in row] for row in found],
            "frames_a_second": [[size / s for size, s in zip(sizes, row, strict=True)] for row in found],
            "threads": torch.get_num_threads(),
        },
    )


def _picture(sizes: Sequence[int], found: list[list[float]], effects: dict[str, list[float]]) -> Picture:
    times_16, share = (sum(effects[name]) / len(found) for name in ("update_of_16", "epoch_at_256"))
    updates = [[1e3 * seconds for seconds in row] for row in found]
    epochs = [[EPOCH / size * s for size, s in zip(sizes, row, strict=True)] for row in found]
    least, last = (pick(pick(row) for row in updates) for pick in (min, max))
    linear = [(size, last * size / sizes[-1]) for size in sizes if last * size / sizes[-1] >= least]
    message = (
        f"An update on 16 frames takes {digits(times_16, 2)} times as long as on 1; "
        f"an epoch in batches of 256, {digits(100 * share, 2)} % of one in batches of 1"
    )
    return Picture(
        "time",
        message,
        (
            Panel(
                "batch size (frames)",
                "time per update (ms)",
                (
                    Line("measured", sizes, updates),
                    Line("in proportion to the batch", *zip(*linear, strict=True)),
                ),
                x_log=True,
                y_log=True,
            ),
            Panel(
                "batch size (frames)",
                f"time per epoch of {EPOCH:,} frames (s)",
                (Line("", sizes, epochs),),
                x_log=True,
                y_log=True,
            ),
        ),
    )


EXPERIMENT = Experiment(
    name="batch_time",
    title="What a larger batch costs in time",
    claims={
        "C1": Claim(
            says="The examples of a batch are computed beside each other: at first a larger batch costs hardly more "
            "time an update, in the end it costs time in proportion, and an epoch takes far less with large batches. "
            "(On one thread of a CPU it is the fixed cost of an update that is shared, on a GPU also its many cores.)",
            refuted_by="An update that takes in proportion to its batch from the start, or an epoch that takes as long "
            "with large batches as with single examples.",
        )
    },
    rules=(
        Rule("C1", "update_of_16", "time of an update on 16 frames, over that on 1: at most the root of 16", below=4.0),
        Rule(
            "C1",
            "growth_at_the_end",
            "growth of an update's time over the last step of batch sizes, over the growth of the batch: 1 is in "
            "proportion",
            above=0.5,
        ),
        Rule("C1", "epoch_at_256", "time of an epoch in batches of 256, over that of one frame at a time", below=0.1),
    ),
    measure=measure,
    measures_time=True,
)
