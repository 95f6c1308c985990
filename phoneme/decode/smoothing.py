"""Median smoothing: the simple baseline that an HMM has to beat."""

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from phoneme.decode.posteriors import check_log_posteriors
from phoneme.errors import InputError
from phoneme.windows import neighbours

AT_ONCE = 4096  # frames whose windows are in memory: 6 MB at 9 frames and 41 classes


def median_smoothing(
    log_posteriors: Float[Tensor, "frame classes"], offsets: Int64[Tensor, "utterance_plus_1"], *, window: int
) -> UInt8[Tensor, "frame"]:
    """The class whose median posterior over `window` frames around the frame is largest; `window=1` is argmax.

    Classes have no order, so the median is taken of each class's posterior and not of the class numbers. Where the
    network is certain this is the majority vote: with posteriors of 0 and 1 a median is 1 if more than half are. At the
    ends of an utterance the outermost frame is repeated. The logarithm does not matter: an odd window's median is one
    of its values.

    Raises InputError for a window that is not odd, and as `check_log_posteriors`.
    """
    if window < 1 or window % 2 == 0:
        raise InputError(
            expected="an odd number of frames",
            got=window,
            where="decode.window",
            hint="the centre frame counts too: 5 is two frames on each side",
        )
    check_log_posteriors(log_posteriors, offsets)
    answer = torch.empty(len(log_posteriors), dtype=torch.uint8, device=log_posteriors.device)
    for index in torch.arange(len(log_posteriors), device=log_posteriors.device).split(AT_ONCE):
        near = neighbours(offsets, index, window)
        medians = log_posteriors[near].median(dim=1).values  # [frame, window, classes] -> [frame, classes]
        answer[index] = medians.argmax(dim=1).to(torch.uint8)
    return answer
