"""Windows of frames, gathered by index where the frames are. Nothing is copied beforehand.

A *window* is the frame in question with its neighbours on both sides; `context` is the number of frames in all.
At the ends of an utterance the outermost frame is repeated ("clamped"), as the course's sample code does.
"""

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor


def neighbours(
    offsets: Int64[Tensor, "utterance_plus_1"], index: Int64[Tensor, "batch"], context: int
) -> Int64[Tensor, "batch context"]:
    """Frame indices `t-r … t+r` (r = context // 2) of every frame t, kept inside the utterance of t.

    >>> neighbours(torch.tensor([0, 3, 5]), torch.tensor([0, 2, 3]), 3)
    tensor([[0, 0, 1],
            [1, 2, 2],
            [3, 3, 4]])
    """
    utterance = torch.searchsorted(offsets, index, right=True)
    first, last = offsets[utterance - 1], offsets[utterance] - 1
    radius = context // 2
    shifts = torch.arange(-radius, radius + 1, device=index.device)
    return torch.clamp(index[:, None] + shifts, first[:, None], last[:, None])


def gather_windows(
    frames: Float[Tensor, "frame coeff"],
    offsets: Int64[Tensor, "utterance_plus_1"],
    index: Int64[Tensor, "batch"],
    context: int,
) -> Float[Tensor, "batch context coeff"]:
    """The windows around the frames `index`, in float32, on the device of the arguments.

    The cost is one row copy a window frame (`index_select`): memory does not grow with the context width.
    """
    rows = neighbours(offsets, index, context).flatten()
    windows = frames.index_select(0, rows).float()  # [batch · context, coeff]
    return windows.view(len(index), context, frames.shape[1])


def gather_utterances(
    frames: Float[Tensor, "frame coeff"],
    offsets: Int64[Tensor, "utterance_plus_1"],
    rows: Int64[Tensor, "batch"],
    longest: int,
) -> tuple[
    Float[Tensor, "batch longest coeff"],
    Int64[Tensor, "batch longest"],
    Int64[Tensor, "batch"],
    Bool[Tensor, "batch longest"],
]:
    """Whole utterances as one zero-padded batch in float32.

    `longest` is the length of the longest of them, known to the caller on the host: nothing here waits for a device.
    Returns the features, the index of each frame (padding repeats the utterance's last one, so that every index is
    valid), the lengths in frames, and the mask of real frames.
    """
    lengths = offsets[rows + 1] - offsets[rows]
    step = torch.arange(longest, device=offsets.device)
    mask = step < lengths[:, None]
    index = offsets[rows][:, None] + torch.minimum(step, lengths[:, None] - 1)
    features = frames.index_select(0, index.flatten()).float().view(*index.shape, frames.shape[1])
    return features * mask[:, :, None], index, lengths, mask


def gather_labels(
    labels: UInt8[Tensor, "frame"],
    index: Int64[Tensor, "batch longest"],
    mask: Bool[Tensor, "batch longest"],
    ignore: int,
) -> Int64[Tensor, "batch longest"]:
    """Labels of the frames `index` as int64, `ignore` where the mask is off."""
    gathered = labels.index_select(0, index.flatten()).view(index.shape).long()
    return torch.where(mask, gathered, ignore)
