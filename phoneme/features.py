"""Waveform to features: Kaldi's MFCCs and log-mel energies, their deltas, normalisation over the utterance.

`mfcc39` gives what the course published for a recording: on 24 of them the largest difference is 6.4e-5,
where a feature has deviation 1. Float64 does not make it smaller, so it lies in the rounding of the files.

    mfcc39(*read_audio("speech.flac"))    # [frame, 39], one row every 10 ms
"""

from pathlib import Path

import soundfile
import torch
from jaxtyping import Float
from torch import Tensor
from torchaudio.compliance import kaldi
from torchaudio.functional import compute_deltas

from phoneme.errors import InputError

SAMPLE_RATE_HZ = 16_000  # LibriSpeech, TIMIT
WINDOW_MS, HOP_MS = 25.0, 10.0  # Kaldi's defaults, and the homework's: one label every 10 ms
WINDOW_SAMPLES = 400  # 25 ms at 16 kHz
HOP_SAMPLES = 160
INT16_SCALE = 32_768.0  # Kaldi reads samples as 16-bit integers
CEPSTRA = 13  # C0 … C12: Kaldi's default, 39 = 3 · 13 in the homework
MEL_BINS = 23  # Kaldi's default for MFCCs
CEPSTRAL_LIFTER = 22.0  # Kaldi's and HTK's default: C_k · (1 + 11 sin(πk/22)), HTK book "Cepstral Features"
DELTA_WINDOW = 5  # two neighbours on each side: HTK's and Kaldi's default
FEWEST_BINS, MOST_BINS = 4, 126  # torchaudio's limit; with 127 a filter falls between two points of the FFT

# How Kaldi cuts and weighs frames: its defaults, but for the dither, which would make the features random.
FRAMING = {
    "frame_length": WINDOW_MS,
    "frame_shift": HOP_MS,
    "snip_edges": True,  # only whole windows: 1 + (samples - 400) // 160 frames
    "window_type": "povey",  # a Hann window to the power 0.85
    "preemphasis_coefficient": 0.97,
    "remove_dc_offset": True,
    "low_freq": 20.0,  # Hz
    "high_freq": 0.0,  # Hz below the Nyquist frequency
    "dither": 0.0,
}


def read_audio(path: str | Path) -> tuple[Float[Tensor, "sample"], int]:
    """The samples of a one-channel 16 kHz recording, in [-1, 1), and the sample rate in Hz.

    Reads what libsndfile reads: WAV, FLAC, Ogg, uncompressed NIST SPHERE (TIMIT's .WAV) and more.

    Raises:
        InputError: no such file, no or broken audio, several channels, another sample rate, less than one
            window, samples that are not finite or are all the same.
    """
    if not Path(path).is_file():
        raise InputError(expected="an audio file", got="no such file", where=path, hint="check the path")
    try:
        samples, sample_rate = soundfile.read(path, dtype="float32", always_2d=True)  # [sample, channel]
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: headerless .raw
        hint = "the file may be incomplete: copy it again; or convert it: sox IN OUT.flac"
        raise InputError(expected="a whole WAV or FLAC file", got=error, where=path, hint=hint) from error
    if samples.shape[1] != 1:
        hint = "mix the channels: sox IN OUT remix -"
        raise InputError(expected="one channel", got=f"{samples.shape[1]} channels", where=path, hint=hint)
    waveform = torch.from_numpy(samples[:, 0])
    _check(waveform, sample_rate, where=path)
    return waveform, sample_rate


def _check(waveform: Float[Tensor, "sample"], sample_rate: int, where: str | Path) -> None:
    """Refuse what would give no features, or meaningless ones."""
    if sample_rate != SAMPLE_RATE_HZ:
        hint = (
            f"resample: torchaudio.functional.resample(waveform, {sample_rate}, {SAMPLE_RATE_HZ}), "
            f"or sox IN -r {SAMPLE_RATE_HZ} OUT"
        )
        raise InputError(expected=f"{SAMPLE_RATE_HZ} Hz", got=f"{sample_rate} Hz", where=where, hint=hint)
    samples = len(waveform)
    if samples < WINDOW_SAMPLES:
        hint = "remove the recording from the list, or copy it again" if samples else "the recording is empty"
        raise InputError(
            expected=f"at least one window of {WINDOW_SAMPLES} samples ({WINDOW_MS:.0f} ms)",
            got=f"{samples} samples",
            where=where,
            hint=hint,
        )
    bad = int((~waveform.isfinite()).sum())
    if bad:
        hint = "make the recording again from its source"
        got = f"{bad} of {samples} are NaN or infinite"
        raise InputError(expected="finite samples", got=got, where=where, hint=hint)
    if bool((waveform == waveform[0]).all()):
        hint = "nothing was recorded: remove the recording from the list"
        got = f"{samples} samples of the value {waveform[0]:g}"
        raise InputError(expected="sound", got=got, where=where, hint=hint)


def mfcc(waveform: Float[Tensor, "sample"], sample_rate: int) -> Float[Tensor, "frame 13"]:
    """Kaldi's MFCCs C0 … C12 of samples in [-1, 1), one row every 10 ms; C0 first, not the energy.

    The cosine transform of 23 log-mel energies. The samples are scaled to 16-bit integers, as in Kaldi. The
    scale adds a constant to C0, which normalisation takes away: the published files do not tell the scale.

    Raises:
        InputError: another sample rate, less than one window, samples not finite or all the same.
    """
    _check(waveform, sample_rate, where="waveform")
    return kaldi.mfcc(
        waveform[None] * INT16_SCALE,
        sample_frequency=sample_rate,
        num_ceps=CEPSTRA,
        num_mel_bins=MEL_BINS,
        cepstral_lifter=CEPSTRAL_LIFTER,
        use_energy=False,
        **FRAMING,
    )


def log_mel(
    waveform: Float[Tensor, "sample"], sample_rate: int = SAMPLE_RATE_HZ, *, bins: int = 40
) -> Float[Tensor, "frame bin"]:
    """Natural logarithms of Kaldi's mel filter-bank energies, not normalised, one row every 10 ms.

    An energy is a weighted sum of the power spectrum: twice the amplitude adds log 4 everywhere. 40 bins are
    those of Kaldi's neural recipes (`mfcc_hires.conf`).

    Raises:
        InputError: as `mfcc`, or a number of bins for which some filter would be empty.
    """
    check_bins(bins, where="bins")
    _check(waveform, sample_rate, where="waveform")
    return kaldi.fbank(
        waveform[None] * INT16_SCALE,
        sample_frequency=sample_rate,
        num_mel_bins=bins,
        use_energy=False,
        **FRAMING,
    )


def check_bins(bins: int, where: str) -> None:
    """Raise InputError for a number of mel bins for which some filter would be empty."""
    if not FEWEST_BINS <= bins <= MOST_BINS:
        hint = "40 and 80 are usual; with more, the low filters are narrower than the spectrum's 31.25 Hz"
        raise InputError(expected=f"{FEWEST_BINS} to {MOST_BINS} mel bins", got=bins, where=where, hint=hint)


def deltas(statics: Float[Tensor, "frame coeff"], axis: str = "cepstral") -> Float[Tensor, "frame coeff"]:
    """Regression deltas with window 5 and repeated edges; apply twice for the delta-deltas.

    d_t = Σ_{n=1,2} n (c_{t+n} - c_{t-n}) / (2 Σ n²): HTK book, "Delta, Acceleration and Third
    Differential Coefficients", with Θ = 2.

    `axis="time"` is that: t counts frames. With `axis="cepstral"` t counts the coefficients of one frame, so
    the deltas are a fixed linear function of the statics and hold nothing new. It is what the course's files
    have (`compute_deltas` takes the last axis for time, and Kaldi's features have the coefficients there).

    >>> deltas(torch.arange(6.0)[:, None], axis="time").flatten()
    tensor([0.5000, 0.8000, 1.0000, 1.0000, 0.8000, 0.5000])

    Raises:
        InputError: another axis.
    """
    if axis == "cepstral":
        return compute_deltas(statics, DELTA_WINDOW, mode="replicate")
    if axis == "time":
        return compute_deltas(statics.T, DELTA_WINDOW, mode="replicate").T  # [coeff, frame] and back
    hint = "cepstral is the course's recipe, time the textbook's"
    raise InputError(expected="cepstral or time", got=repr(axis), where="axis", hint=hint)


def normalise(features: Float[Tensor, "frame coeff"]) -> Float[Tensor, "frame coeff"]:
    """Each coefficient with mean 0 and unbiased (n - 1) deviation 1 over the utterance, as in the homework.

    Computed in float64, where the mean of equal float32 numbers is exact: a constant coefficient becomes
    zeros, not magnified rounding.

    Raises:
        InputError: fewer than two frames, for which there is no deviation.
    """
    if len(features) < 2:
        raise InputError(
            expected="at least two frames",
            got=len(features),
            where="features",
            hint=f"two frames take {WINDOW_SAMPLES + HOP_SAMPLES} samples (35 ms) of speech",
        )
    mean = features.double().mean(0)
    return scale(features, mean, (features.double() - mean).std(0))


def scale(
    features: Float[Tensor, "frame coeff"], mean: Float[Tensor, "coeff"], deviation: Float[Tensor, "coeff"]
) -> Float[Tensor, "frame coeff"]:
    """(features - mean) / deviation, computed in float64; a coefficient without deviation is only centred."""
    return ((features.double() - mean) / torch.where(deviation > 0, deviation, 1.0)).to(features.dtype)


class Moments:
    """Mean and deviation of each coefficient over many utterances, seen one after the other, in float64.

    Two sets of n and m frames with means a, b and sums of squared deviations S, T are together n + m frames with
    mean a + (b - a) m/(n + m) and the sum S + T + (b - a)² nm/(n + m): Chan, Golub and LeVeque, "Algorithms for
    Computing the Sample Variance" (1983), eq. 2.1. Of equal numbers the deviation is exactly 0.
    """

    def __init__(self):
        self.frames, self.mean, self.squares = 0, torch.zeros(()), torch.zeros(())

    def add(self, features: Float[Tensor, "frame coeff"]) -> None:
        """See the frames of one more utterance."""
        new, mean = len(features), features.double().mean(0)
        step, total = mean - self.mean, self.frames + new
        squares = (features.double() - mean).square().sum(0)
        self.squares = self.squares + squares + step.square() * (self.frames * new / total)
        self.mean = self.mean + step * (new / total)
        self.frames = total

    @property
    def deviation(self) -> Float[Tensor, "coeff"]:
        """Unbiased (n - 1), as in `normalise`; 0 for a single frame."""
        return (self.squares / max(self.frames - 1, 1)).sqrt()


def with_deltas(statics: Float[Tensor, "frame coeff"], axes: tuple[str, ...]) -> Float[Tensor, "frame all_coeffs"]:
    """The statics, then for each of the axes their deltas and delta-deltas along it."""
    parts = [statics]
    for axis in axes:
        first = deltas(statics, axis)
        parts += [first, deltas(first, axis)]
    return torch.cat(parts, dim=1)


def mfcc39(waveform: Float[Tensor, "sample"], sample_rate: int, axis: str = "cepstral") -> Float[Tensor, "frame 39"]:
    """The homework's features: 13 MFCCs, their deltas and delta-deltas, normalised over the utterance.

    With `axis="cepstral"` this is what the course published; `axis="time"` is the textbook's (see `deltas`).

    Raises:
        InputError: as `mfcc`, `deltas` and `normalise`.
    """
    return normalise(with_deltas(mfcc(waveform, sample_rate), (axis,)))  # [frame, 3 · 13]
