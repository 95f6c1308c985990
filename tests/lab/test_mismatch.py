"""A5, and other speech that is the same speech."""

import dataclasses
import math

import pytest
import torch

from phoneme.datamodule import PhonemeData
from phoneme.errors import InputError
from phoneme.lab import Bench, Speech, perform
from phoneme.lab.experiments.mismatch import EXPERIMENT, Side, told_apart, weighted_accuracy
from phoneme.lab.speech import Frames
from phoneme.phones import unnamed
from phoneme.runs.bench import make_bench
from phoneme.splits import split_ids
from phoneme.store import FrameStore
from tests.folders import audio_folder
from tests.helpers import composed
from tests.lab.helpers import bundled_store, small_bench


def rulings_of(bench: Bench, **conditions) -> tuple[dict[str, dict], dict]:
    answer = perform(EXPERIMENT, bench, **conditions)
    return {ruling["effect"]: ruling for ruling in answer["rows"]["A5"]["rulings"]}, answer


def speech_of(store: FrameStore) -> Speech:
    return Speech(PhonemeData(store, split_ids(store.ids, store.speakers), context=3), torch.device("cpu"))


def test_accented_speech_is_told_apart():
    rulings, answer = rulings_of(small_bench(), steps=60)
    assert rulings["auc_accented"]["verdict"] == "holds" and rulings["auc_held_out"]["mean"] < 0.6
    assert all(math.isfinite(value) for ruling in rulings.values() for value in ruling["values"])
    assert len(answer["numbers"]["auc"]["test"]) == 3


def test_the_same_speech_is_not():
    same = dataclasses.replace(bundled_store(), speakers=bundled_store().ids)
    bench = dataclasses.replace(small_bench(), open_test=lambda: None)
    rulings, answer = rulings_of(bench, steps=60, other=speech_of(same))
    assert rulings["auc_accented"]["verdict"] == rulings["accuracy_lost"]["verdict"] == "does not hold"
    assert answer["numbers"]["auc"]["test"] == [] and "test split" not in answer["pictures"][0]["message"]


def test_without_the_same_classes_no_accuracy_is_compared():
    unknown = speech_of(dataclasses.replace(bundled_store(), phones=unnamed(41)))
    bench = dataclasses.replace(small_bench(), open_speech=lambda context: unknown, open_test=lambda: None)
    rulings, answer = rulings_of(bench)
    assert rulings["auc_accented"]["verdict"] == "holds" and rulings["accuracy_lost"]["verdict"] == "undecided"
    assert answer["numbers"]["accuracy"].startswith("not measured") and len(answer["pictures"]) == 1


def test_utterances_are_not_learned_by_heart():
    # every utterance has a mark of its own, and nothing else: by frames the AUC would be 1
    generator = torch.Generator().manual_seed(0)
    store = bundled_store()
    marks = torch.randn(len(store), 4, generator=generator).repeat_interleave(store.offsets.diff(), 0)
    marked = dataclasses.replace(store, frames=marks)
    assert told_apart(Side(marked, store.ids[::2]), Side(marked, store.ids[1::2]), 0) < 0.7


def test_another_distribution_is_told_apart():
    store = bundled_store()
    louder = dataclasses.replace(store, frames=1.5 * store.frames)
    assert told_apart(Side(store, store.ids[::2]), Side(louder, store.ids[1::2]), 0) > 0.7


def test_classes_count_as_they_are_asked_to():
    class Says(torch.nn.Module):
        def forward(self, windows):
            return windows[:, 0]

    said = torch.tensor([0, 0, 1, 0])
    frames = Frames(torch.nn.functional.one_hot(said, 3)[:, None].float(), torch.tensor([0, 0, 1, 1]))
    assert weighted_accuracy(Says(), frames, torch.tensor([2, 2, 5])) == 0.75
    assert weighted_accuracy(Says(), frames, torch.tensor([3, 1, 0])) == 0.875


def bench_of(folder, *overrides: str) -> Bench:
    return make_bench(composed("lab", folder, "lab=mismatch", "device=cpu", *overrides)["settings"], progress=False)


def test_a_run_opens_the_accented_speech_and_the_test_split(tmp_path):
    bench = bench_of(tmp_path)
    accented, test = bench.open_accented(3), bench.open_test()
    assert (len(accented.store), len(set(accented.store.speakers)), len(test)) == (30, 15, 20)
    assert not set(accented.split.train) & set(accented.split.val) and test.labels is None
    assert bench_of(tmp_path, "data=accented").open_test() is None


def test_the_accented_speech_has_the_features_of_the_run(tmp_path):
    folder = audio_folder(tmp_path / "audio")
    bench = bench_of(tmp_path, "data=audio", f"data.root={folder}", "features=statics")
    assert bench.open_accented(1).coeffs == bench.open_speech(1).coeffs == 13
    bench = bench_of(tmp_path, "data=audio", f"data.root={folder}", "features=logmel40")
    with pytest.raises(InputError, match="log-mel energies can be computed"):
        bench.open_accented(1)
