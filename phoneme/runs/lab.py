"""The lecture's experiments: one, or all of them with a page of verdicts; what is finished is kept."""

import json
import logging
import shutil
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import joblib
import torch
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from phoneme.build import did_you_mean
from phoneme.errors import InputError
from phoneme.files import primitives, write_json, write_text
from phoneme.lab import perform
from phoneme.lab.bench import BUDGETS
from phoneme.lab.experiments import NAMES, find
from phoneme.plots import plot_picture, save
from phoneme.report.lab import experiment_page, experiment_readme, gallery, lecture_page, summary_lines
from phoneme.runs.bench import make_bench, seeds_of
from phoneme.runs.device import pick_device
from phoneme.runs.seed import check_seed
from phoneme.runs.versions import versions

log = logging.getLogger(__name__)

ALL = "all"
ANSWER = "lab.json"


def run_lab(settings: dict[str, Any], portable: dict[str, Any], folder: Path) -> dict[str, dict[str, Any]]:
    """Run `settings["lab"]`; its files go to `folder`, or to a folder each in it. Returns the answers by name.

    `portable` is the same configuration with its interpolations kept; it goes into the answers.

    Raises InputError for settings that cannot be, and whatever an experiment raises, after the others are done.
    """
    _check(settings)
    name, asked = settings["lab"]["name"], _asked(settings["lab"], portable)
    if name != ALL:
        answer = _run_one(name, settings, asked, folder, progress=True)
        write_text(folder / "index.html", experiment_page(answer, _figures(folder)))
        _say(answer)
        log.info("page: %s", folder / "index.html")
        return {name: answer}
    names = [n for n in NAMES if settings["ckpt_path"] is None or find(n).takes_checkpoint]
    answers, failed = _run_all(names, settings, asked, folder)
    _leave_lecture(answers, settings["lab"]["gallery"], folder)
    if failed:
        raise next(iter(failed.values()))
    return answers


def _check(settings: dict[str, Any]) -> None:
    lab = settings["lab"]
    if lab["name"] not in (ALL, *NAMES):
        hint = did_you_mean(lab["name"], (ALL, *NAMES))
        raise InputError(expected="a known experiment", got=lab["name"], where="lab", hint=hint)
    if lab["budget"] not in BUDGETS:
        raise InputError(
            expected=" or ".join(BUDGETS), got=lab["budget"], where="lab.budget", hint="quick decides most rows"
        )
    check_seed(lab["seed"])
    for key in ("seeds", "jobs"):
        if lab[key] is not None and lab[key] < 1:
            raise InputError(expected="at least 1", got=lab[key], where=f"lab.{key}", hint="null is the default")
    if settings["ckpt_path"] is not None and lab["name"] != ALL and not find(lab["name"]).takes_checkpoint:
        takers = ", ".join(name for name in NAMES if find(name).takes_checkpoint)
        raise InputError(
            expected="an experiment that takes a network of yours",
            got=lab["name"],
            where="ckpt_path",
            hint=f"these do: {takers}; the others train their own (model=…)",
        )


def _run_all(
    names: list[str], settings: dict[str, Any], asked: dict[str, Any], folder: Path
) -> tuple[dict[str, dict[str, Any]], dict[str, Exception]]:
    """Every experiment that is not there yet: those that measure time alone, the others beside each other."""
    answers = {name: kept for name in names if (kept := _kept(asked, folder / name))}
    if answers:
        log.info("kept from before, drawn anew: %s", ", ".join(answers))
        for name, answer in answers.items():
            _leave(answer, folder / name)
    missing = [name for name in names if name not in answers]
    alone = [name for name in missing if find(name).measures_time]
    beside = [name for name in missing if name not in alone]
    failed: dict[str, Exception] = {}
    try:
        with tqdm(total=len(names), initial=len(answers), desc="experiments", disable=None) as bar:
            by_themselves = (_attempt(name, settings, asked, folder / name) for name in alone)
            for name, answer in chain(by_themselves, _run_together(beside, settings, asked, folder)):
                if isinstance(answer, Exception):
                    failed[name] = answer
                else:
                    answers[name] = answer
                    _say(answer)
                bar.update()
    except KeyboardInterrupt:
        done = sum((folder / name / ANSWER).is_file() for name in names)
        log.warning(
            "interrupted: %d of %d experiments are done; the same command with hydra.run.dir=%s goes on",
            done,
            len(names),
            folder,
        )
        raise
    for name, error in failed.items():
        log.error("%s failed: %s", name, error)
    return {name: answers[name] for name in names if name in answers}, failed


def _run_together(
    names: list[str], settings: dict[str, Any], asked: dict[str, Any], folder: Path
) -> Iterator[tuple[str, dict[str, Any] | Exception]]:
    """A process each, `lab.jobs` at a time, in the order in which they end."""
    on_cpu = pick_device(settings["device"]).type == "cpu"
    jobs = settings["lab"]["jobs"] or (joblib.cpu_count() if on_cpu else 1)
    pool = joblib.Parallel(n_jobs=min(jobs, max(len(names), 1)), return_as="generator_unordered", batch_size=1)
    yield from pool(joblib.delayed(_attempt)(name, settings, asked, folder / name) for name in names)


def _attempt(
    name: str, settings: dict[str, Any], asked: dict[str, Any], folder: Path
) -> tuple[str, dict[str, Any] | Exception]:
    """The answer, or what went wrong: the others go on."""
    try:
        return name, _run_one(name, settings, asked, folder)
    except Exception as error:
        return name, error


def _run_one(
    name: str, settings: dict[str, Any], asked: dict[str, Any], folder: Path, progress: bool = False
) -> dict[str, Any]:
    """Run an experiment and leave its files."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # networks this small lose by more, and a sum's rounding depends on their number
    try:
        answer = perform(find(name), make_bench(settings, progress)) | {
            "conditions": asked | {"device": str(pick_device(settings["device"])), "threads": 1}
        }
    finally:
        torch.set_num_threads(threads)
    _leave(answer, folder)
    return answer


def _leave(answer: dict[str, Any], folder: Path) -> None:
    """Figures, README.md, and the answer, which takes its place last."""
    (folder / ANSWER).unlink(missing_ok=True)  # of an earlier run, whose figures go now
    shutil.rmtree(folder / "figures", ignore_errors=True)
    for picture in answer["pictures"]:
        figure = plot_picture(picture)
        for kind in ("png", "svg"):
            save(figure, folder / "figures" / f"{picture['name']}.{kind}")
    write_text(folder / "README.md", experiment_readme(answer))
    write_json(folder / ANSWER, answer)


def _asked(lab: dict[str, Any], portable: dict[str, Any]) -> dict[str, Any]:
    """What an answer depends on: if it is the same, the answer is kept."""
    parts = {name: portable[name] for name in ("data", "features", "model", "ckpt_path")}
    return primitives({**parts, "seeds": seeds_of(lab), "budget": lab["budget"], "versions": versions()})


def _kept(asked: dict[str, Any], folder: Path) -> dict[str, Any] | None:
    """The answer of an earlier run to the same question; None if there is none, or a damaged one."""
    try:
        answer = json.loads((folder / ANSWER).read_text(encoding="utf-8"))
        return answer if {key: answer["conditions"].get(key) for key in asked} == asked else None
    except (OSError, ValueError, KeyError, AttributeError):
        return None


def _figures(folder: Path) -> list[Path]:
    return sorted((folder / "figures").glob("*.png"))


def _say(answer: dict[str, Any]) -> None:
    with logging_redirect_tqdm():
        for line in summary_lines(answer):
            log.info("%s", line)


def _leave_lecture(answers: dict[str, dict[str, Any]], gallery_path: str | None, folder: Path) -> None:
    """index.html, README.md, and the gallery if it is asked for."""
    figures = {name: _figures(folder / name) for name in answers}
    page = write_text(folder / "index.html", lecture_page(answers, figures))
    write_text(folder / "README.md", gallery(answers, figures, folder))
    if gallery_path:
        target = Path(gallery_path).expanduser().absolute()
        write_text(target, gallery(answers, figures, target.parent))
    log.info("page: %s", page)
