"""What an experiment is given."""

import pytest
import torch

from phoneme.errors import InputError
from tests.lab.helpers import bundled_speech, small_bench


def test_a_seed_gives_the_weights():
    bench = small_bench()
    one, same, other = bench.model(0), bench.model(0), bench.model(1)
    assert torch.equal(one.output.weight, same.output.weight) and not torch.equal(
        one.output.weight, other.output.weight
    )


def test_changes_are_settings_of_the_model():
    model = small_bench().model(0, depth=4, norm="batch")
    assert len(model.blocks) == 4 and isinstance(model.blocks[0].norm, torch.nn.BatchNorm1d)


def test_a_model_that_cannot_have_batchnorm_is_refused():
    bench = small_bench()
    linear = {"_target_": "phoneme.models.Linear", "context": 3}
    object.__setattr__(bench, "network", linear)
    with pytest.raises(
        InputError, match="expected a model with the settings norm, which this experiment changes, got Linear without"
    ):
        bench.model(0, norm="batch")


def test_a_model_of_whole_utterances_is_refused():
    bench = small_bench()
    gru = {"_target_": "phoneme.models.Recurrent", "cell": "gru", "masked": True, "width": 8, "depth": 1}
    gru |= {"norm": "none", "dropout": 0.0, "dropout_kind": "frame", "front_depth": 0, "front_kernel": 5}
    object.__setattr__(bench, "network", gru)
    with pytest.raises(InputError, match="expected a model of single frames, got Recurrent"):
        bench.model(0)


def test_the_two_sides_share_no_utterance():
    speech = bundled_speech(3)
    assert not set(speech.split.train) & set(speech.split.val)
    train, val = speech.train(500, 0), speech.val(500, 0)
    assert train.inputs.shape == (500, 3, 39) and train.targets.max() < speech.classes == 41
    centres = {tuple(row.tolist()) for row in train.inputs[:, 1]}
    assert not any(tuple(row.tolist()) in centres for row in val.inputs[:, 1])
    assert not torch.equal(train.targets, speech.train(500, 1).targets)


def test_more_frames_than_there_are_is_an_error():
    with pytest.raises(InputError, match="expected 10000000 labelled frames, got"):
        bundled_speech(1).train(10_000_000, 0)


def test_the_budget_chooses():
    assert small_bench().choose(1, 2) == 1 and small_bench(budget="full").choose(1, 2) == 2
