"""The choice of a frame's columns: from the homework's files and from the recordings they were made from."""

import pytest
import torch

from phoneme.columns import AXES, COURSE, LOG_MEL, Features
from phoneme.errors import InputError
from phoneme.features import deltas, log_mel, mfcc, mfcc39, normalise, read_audio
from tests.folders import AUDIO, features

RECORDINGS = sorted(AUDIO.glob("*.flac"))
TOLERANCE = 1e-4  # of the published files: tests/test_features.py


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda path: path.stem)
@pytest.mark.parametrize("name", AXES)
def test_the_same_columns_from_the_files_and_from_the_recording(recording, name):
    choice = Features(name)
    ready, computed = choice.of_columns(features(recording.stem)), choice.of_audio(*read_audio(recording))
    assert ready.shape == computed.shape == (len(features(recording.stem)), choice.coeffs)
    torch.testing.assert_close(ready, computed, rtol=0, atol=TOLERANCE)


def test_the_courses_columns_stay_bit_by_bit():
    ready = features(RECORDINGS[0].stem)
    assert torch.equal(COURSE.of_columns(ready), ready)
    assert torch.equal(Features("both").of_columns(ready)[:, :39], ready)
    assert torch.equal(Features("statics").of_columns(ready), ready[:, :13])


def test_each_choice_is_what_its_name_says():
    waveform, rate = read_audio(RECORDINGS[0])
    statics = mfcc(waveform, rate)
    assert torch.equal(COURSE.of_audio(waveform, rate), mfcc39(waveform, rate))
    assert torch.equal(Features("time_deltas").of_audio(waveform, rate), mfcc39(waveform, rate, axis="time"))
    assert torch.equal(Features("statics", "none").of_audio(waveform, rate), statics)
    slope, parts = deltas(statics, "time"), Features("both", "none").of_audio(waveform, rate)
    assert torch.equal(parts[:, 39:], torch.cat([slope, deltas(slope, "time")], dim=1))
    mel = Features(LOG_MEL, "none", bins=80)
    assert torch.equal(mel.of_audio(waveform, rate), log_mel(waveform, rate, bins=80))
    assert torch.equal(Features(LOG_MEL, bins=40).of_audio(waveform, rate), normalise(log_mel(waveform, rate)))


def test_time_deltas_hold_something_new():
    ready = features(RECORDINGS[0].stem)
    ranks = {name: int(torch.linalg.matrix_rank(Features(name).of_columns(ready), rtol=1e-4)) for name in AXES}
    assert ranks == {"statics": 13, "course": 13, "time_deltas": 39, "both": 39}


def test_new_columns_of_none_are_the_deltas_of_the_statics_as_they_are():
    ready = features(RECORDINGS[0].stem)
    assert torch.equal(Features("time_deltas", "none").of_columns(ready)[:, 13:26], deltas(ready[:, :13], "time"))


def test_global_is_one_line_for_all_utterances():
    choice = Features("statics", "global").measured([float(k) for k in range(13)], [2.0] * 12 + [0.0])
    columns = torch.full((3, 13), 5.0)
    expected = torch.tensor([*((5.0 - k) / 2 for k in range(12)), 5.0 - 12])
    assert torch.equal(choice.scaled(columns), expected.expand(3, 13))


def test_a_dictionary_and_back():
    choice = Features("both", "global", source="mfcc39").measured([0.5] * 65, [1.0] * 65)
    content = choice.to_dict()
    assert Features.from_dict(content) == choice and hash(choice)
    assert type(content["mean"]) is list
    assert Features.from_dict({}) == COURSE  # a checkpoint from before there was a choice
    assert str(choice) == "both (normalise=global)"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "mfcc"}, r"or time_deltas .*got 'mfcc'\n  where: features.name"),
        ({"normalise": "speakers"}, r"got 'speakers'\n  where: features.normalise\n  hint: did you mean speaker\?"),
        ({"name": "logmel"}, "a number of mel bins for logmel.*, got features.name=logmel features.bins=None"),
        ({"name": "statics", "bins": 40}, "none for anything else, got features.name=statics features.bins=40"),
        ({"name": "logmel", "bins": 200}, "4 to 126 mel bins, got 200\n  where: features.bins"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(InputError, match=message):
        Features(**options)


def test_one_frame_has_no_deviation():
    with pytest.raises(InputError, match="at least two frames, got 1"):
        Features("time_deltas").of_columns(torch.zeros(1, 39))
