"""Folders of arrays on disk: written whole or not at all, checked when opened, mapped into memory.

An entry is a folder with `.npy` arrays and `meta.json`, which holds what the caller stored and a checksum of
every file. Nothing here knows what the arrays mean.
"""

import contextlib
import json
import logging
import os
import secrets
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock
import numpy as np

from phoneme.errors import InputError

log = logging.getLogger(__name__)

META = "meta.json"
TEMPORARY = ".tmp-"
ABANDONED_S = 24 * 3600  # a build takes minutes: yesterday's temporary folder is that of a killed process
CHECK_WHOLE_BYTES = 2 << 30  # a larger file is checked at its ends only, so that opening takes about a second
CHECK_END_BYTES = 64 << 20
READ_BYTES = 1 << 20

Entry = tuple[dict, dict[str, np.ndarray]]  # what the caller stored, and the arrays by name


class Damaged(OSError):
    """An entry is not what was written."""


class ArrayWriter:
    """Streams rows into an `.npy` file whose length is known only at the end.

    The data is never in memory as a whole. numpy pads the header so that the first axis can grow in place.
    """

    def __init__(self, path: Path, dtype: str, row_shape: tuple[int, ...] = ()):
        self.dtype, self.row_shape, self.length = np.dtype(dtype), row_shape, 0
        self.file = open(path, "wb")  # noqa: SIM115 (closed by __exit__)
        self._write_header()
        self.data_starts = self.file.tell()

    def __enter__(self) -> "ArrayWriter":
        return self

    def append(self, rows: np.ndarray) -> None:
        """Add rows of the array's type and shape."""
        assert rows.dtype == self.dtype and rows.shape[1:] == self.row_shape, (rows.dtype, rows.shape)
        self.file.write(np.ascontiguousarray(rows).data)
        self.length += len(rows)

    def __exit__(self, *error) -> None:
        with self.file:
            self.file.seek(0)
            self._write_header()
            assert self.file.tell() == self.data_starts, "the header of a longer array does not fit"

    def _write_header(self) -> None:
        shape = (self.length, *self.row_shape)
        header = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self.file, header)


def find_or_build(
    folders: list[Path], label: str, key: str, fill: Callable[[Path], dict], is_stale: Callable[[dict], bool]
) -> Entry:
    """The entry `label-key` of the first folder that has it, else a new one in the first that can be written.

    A new entry replaces those with its label whose content `is_stale`. See `save` for `fill`.

    Raises:
        InputError: no folder has the entry or can be written.
    """
    for folder in folders:
        with contextlib.suppress(OSError):
            return load(folder / f"{label}-{key}")  # takes no lock: the folder may be read-only
    failures = []
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with locked(folder / f"{label}.lock"):
                found = _load_or_save(folder / f"{label}-{key}", fill)
                sweep(folder, f"{label}-*", is_stale, keep=folder / f"{label}-{key}")
                return found
        except OSError as error:
            log.info("%s cannot be used: %s", folder, error)
            failures.append(f"{folder} ({error.strerror or error})")
    raise InputError(
        expected="a folder that can be written, with room for the frames",
        got=f"an error from each: {', '.join(failures)}",
        where="data.cache_dir",
        hint="set data.cache_dir to another folder; a frame takes 156 bytes, the 2022 homework 0.5 GB",
    )


def _load_or_save(entry: Path, fill: Callable[[Path], dict]) -> Entry:
    try:
        return load(entry)  # another process may have built it while this one waited
    except FileNotFoundError:
        pass
    except Damaged as damage:
        log.warning("the cache is damaged and is built again: %s", damage)
        discard(entry)
    save(entry, fill)
    return load(entry)


def save(entry: Path, fill: Callable[[Path], dict]) -> None:
    """Write an entry: `fill` puts arrays into the folder it is given and returns what to keep beside them.

    That is JSON. The folder appears under its name only when everything in it is on the disk. If another
    process has put one there meanwhile, theirs stays.
    """
    temporary = entry.parent / f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(4)}"
    temporary.mkdir()
    try:
        content = fill(temporary)
        files = {path.name: [path.stat().st_size, _checksum(path)] for path in sorted(temporary.iterdir())}
        meta = {"content": content, "files": files}
        (temporary / META).write_text(json.dumps({"crc32": _json_checksum(meta), **meta}), encoding="utf-8")
        for path in temporary.iterdir():
            _sync(path)
        try:
            os.rename(temporary, entry)
        except OSError:
            if not entry.exists():
                raise
        else:
            _sync(entry.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def load(entry: Path) -> Entry:
    """A checked entry; its arrays are memory maps.

    The maps are private: writing to one changes this process's copy of a page, never the file.

    Raises:
        FileNotFoundError: there is no such entry.
        Damaged: a file is missing, or is not what was written.
    """
    if not entry.is_dir():
        raise FileNotFoundError(entry)
    meta = read_meta(entry)
    for name, (size, crc32) in meta["files"].items():
        path = entry / name
        if not path.is_file() or path.stat().st_size != size:
            raise Damaged(f"{path} is missing or has another size")
        if _checksum(path) != crc32:
            raise Damaged(f"the checksum of {path} is wrong")
    arrays = {name.removesuffix(".npy"): np.load(entry / name, mmap_mode="c") for name in meta["files"]}
    return meta["content"], arrays


def read_meta(entry: Path) -> dict:
    """`meta.json` with "content" and "files". Raises Damaged where it is missing or altered."""
    try:
        meta = json.loads((entry / META).read_text(encoding="utf-8"))
        crc32 = meta.pop("crc32")
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise Damaged(f"{entry / META} cannot be read") from error
    if crc32 != _json_checksum(meta):
        raise Damaged(f"the checksum of {entry / META} is wrong")
    return meta


def discard(entry: Path) -> None:
    """Remove an entry. Other processes see all of it or nothing; those that mapped it keep their maps."""
    doomed = entry.parent / f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(4)}"
    with contextlib.suppress(OSError):
        os.rename(entry, doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def sweep(folder: Path, names: str, is_stale: Callable[[dict], bool], keep: Path) -> None:
    """Remove what is stale among the entries named like `names` (a glob), and builds that were abandoned."""
    for entry in folder.glob(names):
        with contextlib.suppress(Damaged):
            if entry != keep and entry.is_dir() and is_stale(read_meta(entry)["content"]):
                discard(entry)
    for temporary in folder.glob(f"{TEMPORARY}*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - temporary.stat().st_mtime > ABANDONED_S:
                shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file, so that two processes do not both do the same work.

    It saves work and is not needed for safety: where the file system has no locks, go on without.
    """
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        log.info("another process is building; waiting for %s", path)
        lock.acquire()
    except NotImplementedError:
        log.info("no lock on %s: the file system has none", path)
    try:
        yield
    finally:
        lock.release()


def _checksum(path: Path) -> int:
    """CRC-32 of a file, or of its two ends where it is very large."""
    size, crc32 = path.stat().st_size, 0
    parts = [(0, size)]
    if size > CHECK_WHOLE_BYTES:
        parts = [(0, CHECK_END_BYTES), (size - CHECK_END_BYTES, CHECK_END_BYTES)]
    with open(path, "rb", buffering=0) as file:
        for start, length in parts:
            file.seek(start)
            while length and (block := file.read(min(READ_BYTES, length))):
                crc32 = zlib.crc32(block, crc32)
                length -= len(block)
    return crc32


def _json_checksum(meta: dict) -> int:
    return zlib.crc32(json.dumps(meta).encode())


def _sync(path: Path) -> None:
    """Wait until a file or folder is on the disk; folders cannot be synced everywhere."""
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR
    with contextlib.suppress(PermissionError):
        handle = os.open(path, flags)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
