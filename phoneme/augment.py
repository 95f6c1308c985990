"""Random changes of the training frames, on their device: another speed, noise, and SpecAugment's masks.

All of it is drawn from one explicit generator, for a whole batch at once, and nothing waits for a device. Padded frames
are never read and never written. The frames of the store stay as they are: validation and prediction see those.
"""

import logging
import math
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from phoneme.errors import InputError

log = logging.getLogger(__name__)

Batch = TypeVar("Batch")  # a FrameBatch or an UtteranceBatch of the data module


def random_bands(
    sizes: Int64[Tensor, "row"], widest: Int64[Tensor, "row"], length: int, bands: int, generator: torch.Generator
) -> Bool[Tensor, "row length"]:
    """True inside `bands` random stretches of each row: of 0 to `widest` places, among the row's first `sizes`.

    The width is uniform, then the start is among those that fit (Park et al. 2019, section 2). Stretches may overlap.
    `widest` is at most `sizes`.
    """
    draws = torch.rand(2, bands, len(sizes), generator=generator, device=sizes.device)
    width = (draws[0] * (widest + 1)).long()  # [band, row]
    start = (draws[1] * (sizes - width + 1)).long()
    place = torch.arange(length, device=sizes.device)
    inside = (place >= start[:, :, None]) & (place < (start + width)[:, :, None])  # [band, row, length]
    return inside.any(0)


def resample(
    inputs: Float[Tensor, "batch frame coeff"],
    lengths: Int64[Tensor, "batch"],
    new_lengths: Int64[Tensor, "batch"],
    longest: int,
) -> tuple[
    Float[Tensor, "batch longest coeff"],
    Int64[Tensor, "batch longest"],
    Bool[Tensor, "batch longest"],
]:
    """Each utterance over `new_lengths` frames, zero-padded to `longest`, by linear interpolation along the frames.

    The middle of new frame j lies at (j + 1/2) n / n' - 1/2 among the n old ones, kept inside the utterance. Returns
    the features, the nearest old frame of each new one (of a padded one, any), and the mask of real frames. With
    n' = n nothing changes.
    """
    step = torch.arange(longest, device=inputs.device)
    mask = step < new_lengths[:, None]
    last = lengths[:, None] - 1
    position = (step + 0.5) * (lengths / new_lengths)[:, None] - 0.5
    position = torch.minimum(position.clamp(min=0), last)  # [batch, longest]
    before = position.long()
    after = torch.minimum(before + 1, last)
    share = (position - before)[:, :, None]
    features = _frames_at(inputs, before).lerp(_frames_at(inputs, after), share)
    return features.where(mask[:, :, None], 0.0), position.round().long(), mask


def _frames_at(
    inputs: Float[Tensor, "batch frame coeff"], index: Int64[Tensor, "batch longest"]
) -> Float[Tensor, "batch longest coeff"]:
    return inputs.gather(1, index[:, :, None].expand(-1, -1, inputs.shape[2]))


class Augment:
    """`augment(batch, generator) -> batch`: the settings of `augment`, bound to the features and the model.

    In this order, each left out if it is 0:

    - `speed` s: an utterance gets (1 + u) times its frames, u uniform in [-s, s], by `resample`; a label is that of the
      nearest old frame. Deltas are not scaled by it. To keep the host from waiting for the drawn lengths, the batch is
      padded as for the largest.
    - `noise`: Gaussian, of this standard deviation, where a normalised feature has 1.
    - masks (SpecAugment, Park et al. 2019): `time_masks` stretches of up to `time_frames` frames and up to `time_share`
      of the utterance, so that short ones lose no more than long ones (Park et al. 2020, "adaptive size"), and
      `frequency_masks` stretches of up to `frequency_width` coefficients, over all frames. What is hidden becomes 0,
      the mean of normalised features.

    `columns_of` says which columns hold something of a coefficient (`Features.columns_of`). All of them are hidden with
    it: deltas that are seen would give it back, as they are functions of it.

    `window` is that of a frame model, None for whole utterances. A window is treated as an utterance of its own, with
    masks of its own, except that its centre is never hidden in time: it is the only frame that has a label, and of what
    hides the whole of a phone nothing can be learned; in an utterance those frames are few beside the others.

    Raises InputError, `where` naming the key, for a value outside its range, and for a speed with a frame model, whose
    windows are cut already. Masks in time that no window has room for are a warning.
    """

    def __init__(
        self,
        *,
        columns_of: Bool[Tensor, "coefficient column"],
        window: int | None,
        ignore: int,
        time_masks: int,
        time_frames: int,
        time_share: float,
        frequency_masks: int,
        frequency_width: int,
        noise: float,
        speed: float,
    ):
        _check_range("time_masks", time_masks, time_masks >= 0, "0 or more", "0: none")
        _check_range("time_frames", time_frames, time_frames >= 1, "1 or more", "15 frames are 150 ms")
        _check_range("time_share", time_share, 0 < time_share <= 1, "a share in (0, 1]", "0.1: a tenth at most")
        _check_range("frequency_masks", frequency_masks, frequency_masks >= 0, "0 or more", "0: none")
        _check_range("noise", noise, 0 <= noise < math.inf, "0 or more", "0.1 is little, 1 as much as there is signal")
        _check_range("speed", speed, 0 <= speed < 1, "a share in [0, 1)", "0.1: up to a tenth faster or slower")
        whole = speed == 0 or window is None
        _check_range("speed", speed, whole, "0 for a frame model", "only whole utterances can be stretched: model=gru")
        if frequency_masks:
            fits, hint = 1 <= frequency_width <= len(columns_of), "about a quarter of them is usual"
            _check_range("frequency_width", frequency_width, fits, f"1 to {len(columns_of)} coefficients", hint)
        if time_masks and window is not None and int(time_share * window) == 0:
            log.warning("augment.time_masks has no effect: augment.time_share of %d frames is no frame", window)
        self.window, self.ignore, self.columns_of = window, ignore, columns_of
        self.time_masks, self.time_frames, self.time_share = time_masks, time_frames, time_share
        self.frequency_masks, self.frequency_width = frequency_masks, frequency_width
        self.noise, self.speed = noise, speed
        self.masks = bool(time_masks or frequency_masks)
        self.acts = bool(self.masks or noise or speed)  # or everything is switched off

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """A batch with other inputs (and, with a speed, targets and lengths), drawn from a generator on its device."""
        if self.speed:
            batch = self._stretched(batch, generator)
        inputs = batch.inputs
        rows, frames, _ = inputs.shape
        lengths = batch.lengths if self.window is None else torch.full((rows,), frames, device=inputs.device)
        real = (torch.arange(frames, device=inputs.device) < lengths[:, None])[:, :, None]  # [batch, frame, 1]
        if self.noise:
            drawn = torch.randn(inputs.shape, generator=generator, device=inputs.device)
            inputs = torch.where(real, inputs + self.noise * drawn, inputs)
        if self.masks:
            inputs = inputs.masked_fill(self._hidden(lengths, inputs.shape, generator) & real, 0.0)
        return batch._replace(inputs=inputs)

    def _stretched(self, batch: Batch, generator: torch.Generator) -> Batch:
        rows, frames, _ = batch.inputs.shape
        longest = math.ceil(frames * (1 + self.speed))
        drawn = torch.rand(rows, generator=generator, device=batch.inputs.device)
        factor = 1 + self.speed * (2 * drawn - 1)
        lengths = (batch.lengths * factor).round().long().clamp(1, longest)
        inputs, nearest, mask = resample(batch.inputs, batch.lengths, lengths, longest)
        targets = batch.targets.gather(1, nearest).where(mask, self.ignore)
        return batch._replace(
            inputs=inputs, targets=targets, boundary=batch.boundary.gather(1, nearest) & mask, lengths=lengths
        )

    def _hidden(
        self, lengths: Int64[Tensor, "batch"], shape: torch.Size, generator: torch.Generator
    ) -> Bool[Tensor, "batch frame coeff"]:
        """What the masks hide, in time and in frequency."""
        widest = (self.time_share * lengths).long().clamp(max=self.time_frames)
        in_time = random_bands(lengths, widest, shape[1], self.time_masks, generator)
        if self.window is not None:
            in_time[:, self.window // 2] = False
        if not self.frequency_masks:
            return in_time[:, :, None].expand(shape)
        self.columns_of = self.columns_of.to(lengths.device)
        coefficients = len(self.columns_of)
        sizes, widest = (torch.full_like(lengths, n) for n in (coefficients, self.frequency_width))
        in_frequency = random_bands(sizes, widest, coefficients, self.frequency_masks, generator)
        columns = (in_frequency[:, :, None] & self.columns_of).any(1)  # [batch, column]
        return in_time[:, :, None] | columns[:, None, :]


def _check_range(name: str, value: Any, holds: bool, expected: str, hint: str) -> None:
    if not holds:
        raise InputError(expected=expected, got=value, where=f"augment.{name}", hint=hint)
