"""Copies of a training recording: at another speed, or with noise. They train with their original, and never validate.

Speed: the samples are resampled, so that tempo and pitch change together, and the labels with them. Ko, Povey, Peddinti
and Khudanpur, "Audio Augmentation for Speech Recognition" (Interspeech 2015), who take 0.9, 1.0 and 1.1.

Noise: white, Gaussian, its power 10^(-SNR/10) of the recording's; a recording always gets the same.
"""

import math
import zlib
from dataclasses import dataclass
from fractions import Fraction

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torchaudio.functional import add_noise, resample

from phoneme.errors import InputError
from phoneme.features import HOP_SAMPLES, WINDOW_SAMPLES

SLOWEST_PERCENT, FASTEST_PERCENT = 50, 200  # an octave down and up: beyond, it is no speech


@dataclass(frozen=True)
class Copy:
    """What is done to a recording; `suffix` goes behind its id.

    Whole percents keep the resampling's filters short: 90/100 needs 10 of them, 0.9001 ten thousand.
    """

    suffix: str = ""
    percent: int = 100  # of the speed
    snr_db: float | None = None

    def apply(self, waveform: Float[Tensor, "sample"], id: str) -> Float[Tensor, "new_sample"]:
        """The samples of the copy of the recording `id`."""
        if self.percent != 100:
            return resample(waveform, self.percent, 100)
        if self.snr_db is None:
            return waveform
        generator = torch.Generator().manual_seed(zlib.crc32(id.encode()))
        noise = torch.randn(len(waveform), generator=generator)
        return add_noise(waveform[None], noise[None], torch.tensor([self.snr_db]))[0]

    def labels(self, labels: UInt8[Tensor, "frame"], frames: int) -> UInt8[Tensor, "new_frame"]:
        """Labels of the copy's frames: each has that of the original frame whose centre is nearest to its own.

        Frame j is centred at sample 160 j + 200; at speed s that is sample s (160 j + 200) of the original, and so
        the centre of its frame s (j + 5/4) - 5/4. Rounded in integers.

        >>> Copy(percent=200).labels(torch.arange(6, dtype=torch.uint8), 3)
        tensor([1, 3, 5], dtype=torch.uint8)
        """
        # s (j + 5/4) - 5/4 + 1/2 over the common denominator 400
        nearest = (self.percent * (4 * torch.arange(frames) + 5) - 300).div(400, rounding_mode="floor")
        return labels[nearest.clamp(0, len(labels) - 1)]


ORIGINAL = Copy()


def copies(speeds: list[float] | tuple[float, ...], noise_snr_db: float | None) -> tuple[Copy, ...]:
    """The original first, then the copies that the settings ask for.

    Raises:
        InputError: speeds without 1.0, twice the same, out of range or in fractions of a percent; an endless level.
    """
    percents = [Fraction(str(speed)) * 100 if math.isfinite(speed) else Fraction(0) for speed in speeds]
    good = all(p.denominator == 1 and SLOWEST_PERCENT <= p <= FASTEST_PERCENT for p in percents)
    if not good or 100 not in percents or len(set(percents)) < len(percents):
        raise InputError(
            expected="different speeds from 0.5 to 2.0 in whole percents, 1.0 among them",
            got=list(speeds),
            where="data.speeds",
            hint="[0.9,1.0,1.1] is usual: 1.0 is the recording itself, on which is validated",
        )
    if noise_snr_db is not None and not math.isfinite(noise_snr_db):
        hint = "20 is well audible, 0 as loud as the speech; null: no noise"
        raise InputError(expected="decibels", got=noise_snr_db, where="data.noise_snr_db", hint=hint)
    others = [Copy(f"-sp{p / 100:g}", p) for p in map(int, percents) if p != 100]
    noisy = [] if noise_snr_db is None else [Copy(f"-noise{noise_snr_db:g}dB", snr_db=noise_snr_db)]
    return (ORIGINAL, *others, *noisy)


def frames_of(samples: int) -> int:
    """The number of whole windows in a recording."""
    return 1 + (samples - WINDOW_SAMPLES) // HOP_SAMPLES
