"""Copies of recordings at other speeds and with noise, and the labels that go with them."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from phoneme.corpora.copies import ORIGINAL, Copy, copies, frames_of
from phoneme.errors import InputError
from phoneme.features import HOP_SAMPLES, SAMPLE_RATE_HZ, WINDOW_SAMPLES, log_mel, read_audio
from tests.folders import AUDIO

RECORDING = sorted(AUDIO.glob("*.flac"))[0]


@given(st.integers(50, 200), st.integers(WINDOW_SAMPLES, 3000))
def test_a_frame_has_the_label_of_the_nearest_frame(percent, samples):
    originals = frames_of(samples)
    frames = frames_of(max(-(-samples * 100 // percent), WINDOW_SAMPLES))
    found = Copy(percent=percent).labels(torch.arange(originals, dtype=torch.uint8), frames)
    centres = torch.arange(originals, dtype=torch.float64) * HOP_SAMPLES + WINDOW_SAMPLES / 2
    own = (torch.arange(frames, dtype=torch.float64) * HOP_SAMPLES + WINDOW_SAMPLES / 2) * percent / 100
    distance = (own[:, None] - centres).abs()
    chosen = distance.gather(1, found.long()[:, None])[:, 0]
    torch.testing.assert_close(chosen, distance.amin(1))


@given(st.integers(1, 50))
def test_the_original_keeps_its_labels(frames):
    labels = torch.arange(frames, dtype=torch.uint8)
    assert torch.equal(ORIGINAL.labels(labels, frames), labels)


@pytest.mark.parametrize("percent", [80, 90, 110, 125])
def test_speed_changes_tempo_and_pitch_together(percent):
    tone = 0.5 * torch.sin(2 * math.pi * 1000 / SAMPLE_RATE_HZ * torch.arange(SAMPLE_RATE_HZ))
    faster = Copy(percent=percent).apply(tone, "x")
    assert len(faster) == math.ceil(SAMPLE_RATE_HZ * 100 / percent)
    peak = int(torch.fft.rfft(faster).abs().argmax()) * SAMPLE_RATE_HZ / len(faster)
    assert peak == pytest.approx(10 * percent, rel=2e-3)


def test_a_click_and_its_label_stay_together():
    samples = 8000
    for percent in (70, 90, 110, 150):
        waveform = 1e-3 * torch.randn(samples, generator=torch.Generator().manual_seed(0))
        waveform[4000:4160] += 0.5  # within frame 24, whose centre is sample 4040
        labels = torch.zeros(frames_of(samples), dtype=torch.uint8)
        labels[24] = 1
        kind = Copy(percent=percent)
        energy = log_mel(kind.apply(waveform, "x")).mean(1)
        marked = kind.labels(labels, len(energy)).nonzero().flatten().double()
        if len(marked):
            assert abs(float(marked.mean()) - float(energy.argmax())) <= 1.5


def test_noise_has_its_level_and_is_the_same_each_time():
    waveform, _ = read_audio(RECORDING)
    noisy = [Copy(snr_db=10.0).apply(waveform, id) for id in ("a", "a", "b")]
    assert torch.equal(noisy[0], noisy[1]) and not torch.equal(noisy[0], noisy[2])
    noise = (noisy[0] - waveform).double()
    ratio = 10 * torch.log10(waveform.double().square().sum() / noise.square().sum())
    assert float(ratio) == pytest.approx(10, abs=1e-3)
    spectrum = torch.fft.rfft(noise).abs().square()
    low, high = spectrum.tensor_split(2)
    assert float(low.mean() / high.mean()) == pytest.approx(1, abs=0.1)  # white


def test_the_settings_name_the_copies():
    assert copies([1.0], None) == (ORIGINAL,)
    found = copies([0.9, 1.0, 1.15], 20.0)
    assert [copy.suffix for copy in found] == ["", "-sp0.9", "-sp1.15", "-noise20dB"]
    assert [copy.percent for copy in found] == [100, 90, 115, 100]


@pytest.mark.parametrize("speeds", [[], [0.9], [1.0, 1.0], [1.0, 0.4], [1.0, 2.1], [1.0, 0.901], [1.0, math.nan]])
def test_bad_speeds(speeds):
    with pytest.raises(InputError, match=r"speeds from 0.5 to 2.0 in whole percents, 1.0 among them[\s\S]*data.speeds"):
        copies(speeds, None)


@pytest.mark.parametrize("level", [math.inf, math.nan])
def test_a_bad_level(level):
    with pytest.raises(InputError, match=r"expected decibels, got (inf|nan)\n  where: data.noise_snr_db"):
        copies([1.0], level)
