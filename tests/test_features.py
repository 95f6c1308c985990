"""Features against what the course published for the same recordings, and against simple loops."""

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from phoneme.errors import InputError
from phoneme.features import (
    CEPSTRA,
    HOP_SAMPLES,
    SAMPLE_RATE_HZ,
    WINDOW_SAMPLES,
    Moments,
    deltas,
    log_mel,
    mfcc,
    mfcc39,
    normalise,
    read_audio,
    scale,
)

AUDIO = Path(__file__).parent / "data" / "audio"
PUBLISHED = Path(__file__).parents[1] / "data" / "sample" / "feat" / "train"
RECORDINGS = sorted(AUDIO.glob("*.flac"))
TOLERANCE = 1e-4  # reached: 3.1e-5 on these three recordings, 6.4e-5 on all 24 that we have

numbers = st.floats(-100, 100, width=32)


@st.composite
def matrices(draw, least_rows: int = 1) -> torch.Tensor:
    rows, columns = draw(st.integers(least_rows, 9)), draw(st.integers(1, 9))
    row = st.lists(numbers, min_size=columns, max_size=columns)
    return torch.tensor(draw(st.lists(row, min_size=rows, max_size=rows)), dtype=torch.float64)


def published(recording: Path) -> torch.Tensor:
    return torch.load(PUBLISHED / f"{recording.stem}.pt", weights_only=True)


def noise(samples: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def test_there_are_recordings():
    assert len(RECORDINGS) == 3


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda path: path.stem)
def test_cepstral_deltas_are_what_the_course_published(recording):
    features = mfcc39(*read_audio(recording))
    assert features.dtype == torch.float32
    torch.testing.assert_close(features, published(recording), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda path: path.stem)
def test_textbook_deltas_are_not(recording):
    difference = (mfcc39(*read_audio(recording), axis="time") - published(recording)).abs().amax(0)
    assert (difference[:CEPSTRA] < TOLERANCE).all()
    assert (difference[CEPSTRA:] > 1).all()  # each of the 26 columns, by more than its deviation


def test_the_courses_deltas_hold_nothing_new():
    waveform, sample_rate = read_audio(RECORDINGS[0])
    rank = {
        axis: int(torch.linalg.matrix_rank(mfcc39(waveform, sample_rate, axis), rtol=1e-4))
        for axis in ("cepstral", "time")
    }
    assert rank == {"cepstral": 13, "time": 39}


def test_loudness_changes_nothing():
    waveform, sample_rate = read_audio(RECORDINGS[0])
    torch.testing.assert_close(
        mfcc39(0.25 * waveform, sample_rate), mfcc39(waveform, sample_rate), rtol=0, atol=TOLERANCE
    )


@settings(deadline=None)
@given(matrices(), st.sampled_from(["cepstral", "time"]))
def test_deltas_equal_a_loop(statics, axis):
    rows = statics.T.tolist() if axis == "time" else statics.tolist()  # the delta runs along each row
    expected = [
        [sum(n * (row[min(t + n, len(row) - 1)] - row[max(t - n, 0)]) for n in (1, 2)) / 10 for t in range(len(row))]
        for row in rows
    ]
    expected = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(deltas(statics, axis), expected.T if axis == "time" else expected)


def test_an_unknown_axis():
    with pytest.raises(InputError, match=r"cepstral or time, got 'frequency'[\s\S]*hint: cepstral is the"):
        deltas(torch.zeros(3, 13), axis="frequency")


@settings(deadline=None)
@given(matrices(least_rows=2))
def test_normalised_columns_have_mean_0_and_deviation_1(features):
    features = features.float()
    result = normalise(features).double()
    assert result.mean(0).abs().max() < 1e-6
    constant = (features == features[0]).all(0)
    assert (result[:, constant] == 0).all()
    assert ((result.std(0)[~constant] - 1).abs() < 1e-5).all()


@settings(deadline=None)
@given(st.integers(2, 50), st.floats(0.01, 100), numbers)
def test_normalising_forgets_scale_and_offset(frames, scale, offset):
    features = noise(frames * 3).view(frames, 3).double()
    torch.testing.assert_close(normalise(scale * features + offset), normalise(features), rtol=0, atol=1e-6)


@settings(deadline=None)
@given(matrices(least_rows=2), st.lists(st.integers(1, 8), max_size=3))
def test_moments_of_parts_are_those_of_the_whole(features, cuts):
    features = features.float()
    moments = Moments()
    for part in features.tensor_split(sorted({min(cut, len(features) - 1) for cut in cuts})):
        if len(part):
            moments.add(part)
    assert moments.frames == len(features)
    torch.testing.assert_close(moments.mean, features.double().mean(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(moments.deviation, features.double().std(0), rtol=1e-9, atol=1e-6)
    constant = (features == features[0]).all(0)
    assert (moments.deviation[constant] == 0).all()
    torch.testing.assert_close(scale(features, moments.mean, moments.deviation)[:, constant].abs().sum().item(), 0.0)


def test_one_frame_has_no_deviation():
    with pytest.raises(InputError, match=r"at least two frames, got 1[\s\S]*hint: two frames take 560"):
        mfcc39(noise(WINDOW_SAMPLES + HOP_SAMPLES - 1), SAMPLE_RATE_HZ)
    assert mfcc39(noise(WINDOW_SAMPLES + HOP_SAMPLES), SAMPLE_RATE_HZ).shape == (2, 39)


@settings(deadline=None, max_examples=30)
@given(st.integers(WINDOW_SAMPLES, 4000))
def test_only_whole_windows_count(samples):
    frames = 1 + (samples - WINDOW_SAMPLES) // HOP_SAMPLES
    assert mfcc(noise(samples), SAMPLE_RATE_HZ).shape == (frames, 13)
    assert log_mel(noise(samples)).shape == (frames, 40)


def test_twice_the_amplitude_adds_log_4_to_log_mel():
    waveform, sample_rate = read_audio(RECORDINGS[0])
    louder = log_mel(2 * waveform, sample_rate) - log_mel(waveform, sample_rate)
    torch.testing.assert_close(louder, torch.full_like(louder, math.log(4)))


@pytest.mark.parametrize("hz", [250, 1000, 4000])
def test_a_tone_is_loudest_in_its_own_mel_bin(hz):
    tone = 0.5 * torch.sin(2 * math.pi * hz / SAMPLE_RATE_HZ * torch.arange(SAMPLE_RATE_HZ))
    mel = [1127 * math.log(1 + f / 700) for f in (20, hz, SAMPLE_RATE_HZ / 2)]
    position = (mel[1] - mel[0]) / (mel[2] - mel[0]) * 41 - 1  # 40 centres between 41 equal steps
    assert ((log_mel(tone).argmax(1) - position).abs() <= 1).all()


@pytest.mark.parametrize("bins", [3, 127])
def test_empty_mel_filters(bins):
    with pytest.raises(InputError, match=rf"expected 4 to 126 mel bins, got {bins}"):
        log_mel(noise(800), bins=bins)


@pytest.mark.parametrize("bins", [4, 126])
def test_the_limits_of_the_mel_filters(bins):
    assert log_mel(noise(4000), bins=bins).std(0).min() > 0


def test_samples_come_as_they_were_written(tmp_path):
    samples = np.array([-32768, 0, 1, 32767] * 100, dtype=np.int16)
    soundfile.write(tmp_path / "a.wav", samples, SAMPLE_RATE_HZ)
    waveform, sample_rate = read_audio(str(tmp_path / "a.wav"))
    assert sample_rate == SAMPLE_RATE_HZ
    assert torch.equal(waveform * 32768, torch.from_numpy(samples).float())


def test_no_such_file(tmp_path):
    with pytest.raises(InputError, match=r"an audio file, got no such file\s+where: .*nowhere\.flac"):
        read_audio(tmp_path / "nowhere.flac")


@pytest.mark.parametrize("length", [0, 100, 20_000])
def test_an_incomplete_file(tmp_path, length):
    path = tmp_path / "half.flac"
    path.write_bytes(RECORDINGS[0].read_bytes()[:length])
    with pytest.raises(InputError, match=r"a whole WAV or FLAC file, got [\s\S]*half\.flac[\s\S]*hint: the"):
        read_audio(path)


def test_a_file_without_a_header(tmp_path):
    path = tmp_path / "samples.raw"
    path.write_bytes(bytes(2000))
    with pytest.raises(InputError, match=r"a whole WAV or FLAC file, got samplerate must be specified"):
        read_audio(path)


@pytest.mark.parametrize(
    ("samples", "sample_rate", "message"),
    [
        (np.zeros((800, 2)), 16_000, r"one channel, got 2 channels[\s\S]*hint: mix the channels: sox"),
        (
            noise(800).numpy(),
            8_000,
            r"16000 Hz, got 8000 Hz[\s\S]*\.resample\(waveform, 8000, 16000\), or sox",
        ),
        (noise(399).numpy(), 16_000, r"window of 400 samples \(25 ms\), got 399 samples[\s\S]*hint: remove"),
        (np.zeros(0), 16_000, r"window of 400 samples \(25 ms\), got 0 samples[\s\S]*hint: the recording is"),
        (np.array([0.1, math.nan, math.inf, 0.0] * 200), 16_000, r"finite samples, got 400 of 800 are NaN"),
        (np.zeros(800), 16_000, r"sound, got 800 samples of the value 0[\s\S]*hint: nothing was"),
    ],
    ids=["stereo", "rate", "short", "empty", "nan", "silent"],
)
def test_unusable_recordings(tmp_path, samples, sample_rate, message):
    path = tmp_path / "a.wav"
    soundfile.write(path, samples, sample_rate, subtype="FLOAT")
    with pytest.raises(InputError, match=message) as caught:
        read_audio(path)
    assert caught.value.where == path


@pytest.mark.parametrize("transform", [mfcc, mfcc39, log_mel])
def test_unusable_waveforms(transform):
    with pytest.raises(InputError, match=r"16000 Hz, got 44100 Hz\s+where: waveform"):
        transform(noise(800), 44_100)
    with pytest.raises(InputError, match=r"got 10 samples\s+where: waveform"):
        transform(noise(10), SAMPLE_RATE_HZ)
