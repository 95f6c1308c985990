import json
import logging
import multiprocessing
import os
import time
from pathlib import Path

import filelock
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from phoneme import cache
from phoneme.corpora import LibriPhone, Timit11
from phoneme.errors import InputError
from phoneme.phones import unnamed
from phoneme.store import FrameStore, open_store
from tests.folders import LABELS, TEST, TRAIN, features, libriphone_folder, timit11_folder, write_labels

IDS = TRAIN[:4]


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    return libriphone_folder(tmp_path / "corpus")


def opened(root, split="train", **options):
    return open_store(LibriPhone(root), split, progress=False, **options)


def entries(root):
    return sorted(path.name for path in (root / ".phoneme-cache").iterdir() if path.is_dir())


def entry(root, split="train"):
    (found,) = (root / ".phoneme-cache").glob(f"libriphone-{split}-*")
    return found


def assert_whole(store, ids=IDS):
    assert store.ids == ids
    assert torch.equal(store.frames, torch.cat([features(id) for id in ids]))
    assert store.offsets.diff().tolist() == [len(features(id)) for id in ids]
    if store.labels is not None:
        assert store.labels.tolist() == [int(label) for id in ids for label in LABELS[id]]


def small(lengths):
    n, offsets = sum(lengths), torch.tensor([0, *lengths]).cumsum(0)
    ids = tuple(f"u{k}" for k in range(len(lengths)))
    frames = torch.arange(2.0 * n).view(n, 2)
    return FrameStore(frames, torch.zeros(n, dtype=torch.uint8), offsets, ids, (None,) * len(ids), unnamed(3))


def ruin(root, *ids):
    for id in ids:
        split = "train" if id in TRAIN else "test"
        torch.save(features(id).double(), root / "feat" / split / f"{id}.pt")


# -- what a store is


def test_all_frames_once_in_order(root):
    store = opened(root)
    assert_whole(store)
    assert store.speakers == tuple(id.split("-")[0] for id in IDS)
    assert (len(store), store.n_frames, store.coeffs) == (4, int(store.offsets[-1]), 39)
    assert store.nbytes == store.n_frames * (39 * 4 + 1) + 5 * 8
    assert store.phones.name == "phones" and len(store.phones) == 41


def test_the_test_split(root):
    store = opened(root, "test")
    assert store.labels is None
    assert_whole(store, TEST[:2])


def test_the_same_from_the_cache(root):
    first, again = opened(root), opened(root)
    assert_whole(again)
    assert first.speakers == again.speakers


def test_any_corpus(tmp_path):
    store = open_store(Timit11(timit11_folder(tmp_path)), "train", progress=False)
    assert torch.equal(store.frames, torch.cat([features(id) for id in IDS]))
    assert store.ids[3] == "train-00003" and store.speakers[3] is None


@pytest.mark.parametrize("workers", [1, 3])
def test_the_number_of_readers_changes_nothing(root, workers, monkeypatch):
    monkeypatch.setattr("phoneme.store.READ_AT_ONCE", 3)
    assert_whole(opened(root, workers=workers))


def test_half_precision(root):
    store = opened(root, dtype="float16")
    assert torch.equal(store.frames, torch.cat([features(id) for id in IDS]).half())
    assert torch.equal(opened(root, dtype="float16").frames, store.frames)


def test_a_feature_too_large_for_half_precision(root):
    torch.save(features(IDS[1]) * 1e5, root / "feat" / "train" / f"{IDS[1]}.pt")
    assert opened(root).n_frames
    with pytest.raises(InputError, match=f"{IDS[1]}: a feature is beyond 65504.*(?s:.*)use data.dtype=float32"):
        opened(root, dtype="float16")


def test_writing_to_a_store_leaves_the_file_alone(root):
    opened(root).frames.zero_()
    assert_whole(opened(root))


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=12), data=st.data())
def test_frame_indices_against_a_loop(lengths, data):
    store = small(lengths)
    rows = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=12))
    bounds = store.offsets.tolist()
    expected = [frame for row in rows for frame in range(bounds[row], bounds[row + 1])]
    assert store.frame_indices(torch.tensor(rows, dtype=torch.int64)).tolist() == expected


def test_rows_of():
    store = small([3, 1, 2])
    assert store.rows_of(["u2", "u0"]).tolist() == [2, 0]
    with pytest.raises(InputError, match=r"got 1 others, 'x' first\n.*\n  hint: a checkpoint's split"):
        store.rows_of(["u0", "x"])


def test_to_a_device():
    store = small([3, 1]).to("meta")
    assert {store.frames.device.type, store.labels.device.type, store.offsets.device.type} == {"meta"}
    assert store.ids == ("u0", "u1")


# -- what is wrong with the data


def test_all_problems_at_once(root):
    ruin(root, IDS[0])
    (root / "feat" / "train" / f"{IDS[1]}.pt").unlink()
    write_labels(root, {id: LABELS[id] for id in IDS if id != IDS[3]})
    with pytest.raises(InputError) as caught:
        opened(root)
    lines = str(caught.value).split("\n")
    assert lines[0] == "expected 4 good train utterances, got 3 bad ones:"
    assert lines[1] == f"    feat/train/{IDS[0]}.pt: float64, strided, on cpu instead of a dense float32 tensor"
    assert lines[2] == f"    feat/train/{IDS[1]}.pt: no such file"
    assert lines[3] == f"    train_labels.txt: no line for {IDS[3]}"
    assert lines[4] == f"  where: {root}"
    assert lines[5].startswith("  hint: copy the .pt file again")
    assert lines[-1].endswith("set data.on_bad_utterance=drop")


def test_many_problems_are_counted(tmp_path):
    root = libriphone_folder(tmp_path, n_train=23)
    ruin(root, *TRAIN[:23])
    with pytest.raises(InputError, match=r"(?s)got 23 bad ones:.*\n    \.\.\. and 3 more\n"):
        opened(root)


def test_nothing_is_kept_of_bad_data(root):
    ruin(root, IDS[0])
    with pytest.raises(InputError):
        opened(root)
    assert entries(root) == []


def test_bad_training_utterances_can_be_dropped(root, caplog):
    ruin(root, IDS[0], IDS[2])
    for _ in ("built", "cached"):
        caplog.clear()
        assert_whole(opened(root, on_bad_utterance="drop"), (IDS[1], IDS[3]))
        (record,) = caplog.records
        assert "dropped 2 bad utterances, 2 are left" in record.getMessage()
    with pytest.raises(InputError, match="got 2 bad ones"):
        opened(root)  # though there is an entry in the cache


def test_not_everything_can_be_dropped(root):
    ruin(root, *IDS)
    with pytest.raises(InputError, match="expected 4 good train utterances, got 4 bad ones"):
        opened(root, on_bad_utterance="drop")


def test_bad_test_utterances_always_stop(root):
    ruin(root, TEST[0])
    with pytest.raises(InputError, match="expected 2 good test utterances, got 1 bad ones") as caught:
        opened(root, "test", on_bad_utterance="drop")
    assert "on_bad_utterance" not in str(caught.value)


@pytest.mark.parametrize(("option", "word"), [("dtype", "float23"), ("on_bad_utterance", "dorp"), ("split", "trian")])
def test_words_that_are_not_known(root, option, word):
    with pytest.raises(InputError, match=f"got '{word}'\n  where: data.{option}"):
        opened(root, **{option: word})


# -- the cache


def test_a_changed_file_makes_a_new_entry_and_removes_the_old(root):
    opened(root), opened(root, "test"), opened(root, dtype="float16")
    before = entries(root)
    path = root / "feat" / "train" / f"{IDS[0]}.pt"
    torch.save(features(IDS[0]) + 1, path)
    os.utime(path, ns=(0, 0))
    assert torch.equal(opened(root).frames[0], features(IDS[0])[0] + 1)
    after = entries(root)
    assert len(before) == len(after) == 3
    assert len(set(before) & set(after)) == 2  # test and float16 are another matter


@pytest.mark.parametrize("change", ["phones.txt", "train_labels.txt", "train_split.txt"])
def test_every_file_counts(root, change):
    opened(root)
    before = entries(root)
    os.utime(root / change, ns=(0, 0))
    opened(root)
    assert entries(root) != before


def test_options_count(root):
    opened(root)
    by_chapter = open_store(LibriPhone(root, speaker_pattern="-(.+)-"), "train", progress=False)
    assert by_chapter.speakers == tuple(id.split("-")[1] for id in IDS)


def test_two_corpora_share_a_cache_folder(root, tmp_path):
    other = libriphone_folder(tmp_path / "other", n_train=2)
    opened(root, cache_dir=tmp_path / "both")
    opened(other, cache_dir=tmp_path / "both")
    assert len([path for path in (tmp_path / "both").iterdir() if path.is_dir()]) == 2


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("name", ["frames.npy", "labels.npy", "meta.json"])
@pytest.mark.parametrize("damage", [flip, cut, Path.unlink])
def test_a_damaged_entry_is_built_again(root, name, damage, caplog):
    opened(root)
    damage(entry(root) / name)
    assert_whole(opened(root))
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "damaged and is built again" in caplog.text
    caplog.clear()
    assert_whole(opened(root))
    assert not caplog.records


def test_an_entry_is_complete_or_not_there(root, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("phoneme.cache.os.rename", killed)
    with pytest.raises(KeyboardInterrupt):
        opened(root)
    assert entries(root) == []


def test_what_a_killed_build_left_is_removed_after_a_day(root):
    folder = root / ".phoneme-cache"
    for name, age_s in ((".tmp-old", 25 * 3600), (".tmp-new", 60)):
        (folder / name).mkdir(parents=True)
        os.utime(folder / name, (time.time() - age_s,) * 2)
    opened(root)
    assert [name for name in entries(root) if name.startswith(".tmp")] == [".tmp-new"]


def test_a_folder_that_cannot_be_written(root, tmp_path):
    (root / ".phoneme-cache").touch()  # a file in its place: even for an administrator it cannot be a folder
    assert_whole(opened(root))
    assert len(list((tmp_path / "user-cache" / "phoneme").glob("libriphone-train-*"))) == 1
    assert_whole(opened(root))


def test_no_folder_can_be_written(root, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"a folder that can be written.*file/below.*\n  where: data.cache_dir"):
        opened(root, cache_dir=tmp_path / "file" / "below")


def test_without_locks_it_still_works(root, monkeypatch):
    def none(*_, **__):
        raise NotImplementedError

    monkeypatch.setattr(filelock.FileLock, "acquire", none)
    assert_whole(opened(root))


def test_another_process_may_have_been_faster(root, monkeypatch):
    rename, raced = os.rename, []

    def lose(source, target):
        if not raced and Path(target).name.startswith("libriphone"):
            raced.append(target)
            opened(root)  # the other process; it takes no notice of our lock
        rename(source, target)

    monkeypatch.setattr("phoneme.cache.os.rename", lose)
    monkeypatch.setattr("phoneme.cache.locked", lambda path: filelock.SoftFileLock(f"{path}{len(raced)}"))
    assert_whole(opened(root))
    assert len(raced) == len([name for name in entries(root) if not name.startswith(".tmp")]) == 1


def open_at_once(root, barrier, answers):
    barrier.wait()
    answers.put(opened(root).frames.double().sum().item())


def test_two_processes_at_once(root):
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(2), context.Queue()
    processes = [context.Process(target=open_at_once, args=(root, barrier, answers)) for _ in range(2)]
    for process in processes:
        process.start()
    sums = {answers.get(timeout=60) for _ in processes}
    for process in processes:
        process.join()
    assert sums == {opened(root).frames.double().sum().item()}
    assert len(entries(root)) == 1


def test_large_files_are_checked_at_their_ends(root, monkeypatch):
    monkeypatch.setattr(cache, "CHECK_WHOLE_BYTES", 1000)
    monkeypatch.setattr(cache, "CHECK_END_BYTES", 300)
    opened(root)
    path = entry(root) / "frames.npy"
    files = json.loads((entry(root) / "meta.json").read_text())["files"]
    data = path.read_bytes()
    for position, noticed in ((0, True), (-1, True), (len(data) // 2, False)):
        altered = bytearray(data)
        altered[position] ^= 1
        path.write_bytes(altered)
        assert (cache._checksum(path) != files["frames.npy"][1]) == noticed


@given(lengths=st.lists(st.integers(0, 5), max_size=12))
def test_a_streamed_array_is_the_saved_array(lengths, tmp_path_factory):
    path = tmp_path_factory.mktemp("array") / "x.npy"
    blocks = [np.full((n, 3), n, np.float32) for n in lengths]
    with cache.ArrayWriter(path, "float32", (3,)) as writer:
        for block in blocks:
            writer.append(block)
    assert np.array_equal(np.load(path), np.concatenate([np.empty((0, 3), np.float32), *blocks]))
