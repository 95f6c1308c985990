"""One trial of a search: a training in a process of its own.

So a trial that runs out of memory or crashes takes nothing with it, none leaves memory behind, and its numbers are
those of `phoneme-train` with the same settings. Where the system can fork, the processes come from one that has torch
imported already: a trial then starts in a fraction of a second.
"""

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from phoneme.callbacks import Pruned, Report
from phoneme.errors import PhonemeError
from phoneme.runs.compose import compose_job
from phoneme.runs.train import train

LOG = "train.log"  # in the trial's folder: what phoneme-train would print
PATIENCE_S = 10  # for a trial that was told to end; what it has not written then is not needed


class TrialFailed(Exception):
    """The training of a trial ended with an error; the message is its own."""


def run_trial(overrides: list[str], folder: Path, tell: Callable[[int, dict[str, float]], bool]) -> dict[str, Any]:
    """Train with `overrides` in `folder`; returns the summary.

    After each validation `tell(epoch, metrics)` is called in this process; False ends the trial. Raises Pruned then,
    and TrialFailed for what goes wrong in the trial, whatever it is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    context = _processes()
    here, there = context.Pipe()
    process = context.Process(target=_train, args=(there, overrides, folder), daemon=True)
    process.start()
    there.close()  # so that reading fails when the trial's end is gone
    try:
        word, content = _listen(here, tell)
    except (EOFError, ConnectionError) as error:
        process.join()
        raise TrialFailed(_how_it_died(process.exitcode)) from error
    except KeyboardInterrupt:
        process.terminate()
        raise
    finally:
        here.close()
        _end(process)
    if word == "pruned":
        raise Pruned(content)
    if word == "failed":
        raise TrialFailed(content)
    return content


def _listen(connection: Connection, tell: Callable[[int, dict[str, float]], bool]) -> tuple[str, Any]:
    """Answer the trial's questions until its last word: done, pruned or failed, with what belongs to it."""
    while True:
        word, *content = connection.recv()
        if word != "epoch":
            return word, content[0]
        connection.send(tell(*content))


def warm_up() -> None:
    """Let the process that trials are forked from import what they need, while this one goes on."""
    if "forkserver" in multiprocessing.get_all_start_methods():
        from multiprocessing import forkserver  # where there is none it cannot be imported

        _processes()
        forkserver.ensure_running()


def _processes() -> BaseContext:
    """How trials are started: forked from a clean process that has imported this module, else started afresh."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _end(process: BaseProcess) -> None:
    """Wait for a trial that has said its last word, or that nobody listens to any more; then end it."""
    for stop in (process.terminate, process.kill):
        process.join(PATIENCE_S)
        if process.exitcode is not None:
            return
        stop()
    process.join()


def _how_it_died(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        hint = ": usually the machine ran out of memory" if name == "SIGKILL" else ""
        return f"the trial's process was ended by {name}{hint}"
    return f"the trial's process ended with code {exitcode}"


def _train(connection: Connection, overrides: list[str], folder: Path) -> None:
    """The trial's process. It ends by itself when nobody listens any more."""
    _write_into(folder / LOG)

    def tell(epoch: int, metrics: dict[str, float]) -> bool:
        connection.send(("epoch", epoch, metrics))
        return connection.recv()

    try:
        settings, portable = compose_job("train", overrides, folder)
        last = ("done", train(settings, portable, folder, multirun=True, watchers=(Report(tell),)))
    except Pruned as error:
        last = ("pruned", str(error))
    except KeyboardInterrupt:
        last = ("failed", "interrupted")
    except Exception as error:
        traceback.print_exception(error)
        last = ("failed", str(error) if isinstance(error, PhonemeError) else f"{type(error).__name__}: {error}")
    with contextlib.suppress(ConnectionError):
        connection.send(last)


def _write_into(path: Path) -> None:
    """Everything this process prints, and what its libraries print, goes into a file."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for descriptor in (1, 2):
        os.dup2(file, descriptor)
    os.close(file)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
