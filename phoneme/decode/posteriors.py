"""What a decoder is given: log-posteriors of many frames and the bounds of the utterances; and the plainest answer."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from phoneme.errors import InputError

TOLERANCE = 1e-2  # nats; rounding to float16 changes the sum by the entropy · 2^-11: 0.002 at most with 41 classes
FLOOR = -30.0  # nats: a probability of 0 would forbid a path or a product for good because of one frame


def check_log_posteriors(
    log_posteriors: Float[Tensor, "frame classes"], offsets: Int64[Tensor, "utterance_plus_1"]
) -> None:
    """Raise InputError unless each row is the logarithm of a distribution and the utterances fill the frames.

    The row's sum has to be 1 within `TOLERANCE` (in nats): a logit or a probability in its place is noticed.
    """
    frames = len(log_posteriors)
    if int(offsets[0]) != 0 or int(offsets[-1]) != frames or bool((offsets.diff() < 0).any()):
        raise InputError(
            expected=f"bounds of utterances from 0 to {frames} that do not fall",
            got=f"{len(offsets)} of them, from {int(offsets[0])} to {int(offsets[-1])}",
            where="the offsets of the utterances",
            hint="utterance u is the frames offsets[u] to offsets[u + 1] - 1",
        )

    def place(frame: int) -> str:
        utterance = int(torch.searchsorted(offsets, frame, right=True)) - 1
        return f"frame {frame - int(offsets[utterance])} of utterance {utterance}"

    check_normalised(log_posteriors, place)


def check_normalised(log_posteriors: Float[Tensor, "frame classes"], place: Callable[[int], str]) -> None:
    """Raise InputError unless each row is the logarithm of a distribution; `place` says where a frame is."""
    total = log_posteriors.float().logsumexp(dim=1)
    wrong = (~(total.abs() <= TOLERANCE)).nonzero().flatten()  # NaN is wrong too
    if len(wrong):
        frame = int(wrong[0])
        raise InputError(
            expected="log-posteriors: in each frame the exponentials sum to 1",
            got=f"a sum of {float(total[frame].exp()):.4g} (and {len(wrong) - 1} more such frames)",
            where=place(frame),
            hint="apply log_softmax to the logits; NaN comes from a network that diverged",
        )


def argmax(
    log_posteriors: Float[Tensor, "frame classes"], offsets: Int64[Tensor, "utterance_plus_1"]
) -> UInt8[Tensor, "frame"]:
    """The most probable class of each frame by itself. Raises InputError as `check_log_posteriors`."""
    check_log_posteriors(log_posteriors, offsets)
    return log_posteriors.argmax(dim=1).to(torch.uint8)
