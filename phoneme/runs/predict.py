"""Trained checkpoints over a test split: `prediction.csv`; with several, or with a decoder, also what that is worth."""

import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from phoneme.build import did_you_mean
from phoneme.decode import (
    EnsembleScore,
    agreement,
    argmax,
    check_average,
    check_weights,
    combine,
    count_phones,
    hmm_decoding,
    median_smoothing,
    score_ensemble,
    tune,
)
from phoneme.errors import InputError
from phoneme.files import write_json
from phoneme.runs.data import open_test, warn_of_known
from phoneme.runs.device import pick_device
from phoneme.runs.members import Labelled, Member, open_each, open_labelled, read_members
from phoneme.store import FrameStore
from phoneme.submission import check_sample, write_submission

log = logging.getLogger(__name__)

DECODERS = ("argmax", "median", "hmm")


def run_predict(settings: dict[str, Any], folder: Path) -> Path:
    """Label the test split of `settings["data"]` (or of the data the first checkpoint was trained on)."""
    _check(settings)
    members = read_members(settings["ckpt_path"])
    section = settings["data"] or members[0].data
    stores = open_each(members, partial(open_test, section))
    n_frames = stores[0].n_frames
    warn_of_known(stores[0], [id for member in members for id in member.train + member.val])
    if section["sample_submission"]:
        check_sample(section["sample_submission"], n_frames)
    labelled = _labelled(members, settings)
    options = {"device": pick_device(settings["device"]), "batch_size": settings["batch_size"]}
    score, validation = _score(members, labelled, settings["ensemble"], options)
    weights = score.weights if score else [1 / len(members)] * len(members)
    posteriors, answers = _predict(members, weights, settings["ensemble"]["average"], stores, options)
    if len(members) > 1:
        _leave_ensemble(members, weights, settings["ensemble"], score, agreement(answers), folder)
    decode = _decoder(settings["decode"], labelled, validation, folder)
    classes = decode(posteriors, stores[0].offsets)
    path = write_submission(folder / "prediction.csv", classes, n_frames, section["sample_submission"])
    log.info("submission: %s (%d rows)", path, n_frames)
    return path


def _check(settings: dict[str, Any]) -> None:
    """Raise InputError for words that would fail late."""
    check_average(settings["ensemble"]["average"])
    check_weights(settings["ensemble"]["weights"])
    name = settings["decode"]["name"]
    if name not in DECODERS:
        raise InputError(
            expected=" or ".join(DECODERS), got=name, where="decode.name", hint=did_you_mean(name, DECODERS)
        )


def _labelled(members: list[Member], settings: dict[str, Any]) -> Labelled | None:
    """Where something is chosen or scored; an ensemble that chooses nothing can do without."""
    chooses = settings["decode"]["name"] != "argmax"
    if len(members) > 1:
        chooses |= settings["ensemble"]["weights"] == "fitted"
    elif settings["ensemble"]["weights"] == "fitted":
        log.warning("ensemble.weights=fitted has no effect: there is one checkpoint")
    if len(members) == 1 and not chooses:
        return None
    try:
        return open_labelled(members, settings["data"])
    except InputError as error:
        if chooses:
            raise
        log.warning("no accuracies of the members and of the ensemble: %s", error)
        return None


def _score(
    members: list[Member], labelled: Labelled | None, ensemble: dict[str, str], options: dict[str, Any]
) -> tuple[EnsembleScore | None, Float[Tensor, "frame classes"] | None]:
    """What the ensemble is worth on the held-out utterances, and its log-posteriors there."""
    if labelled is None:
        return None, None
    pairs = zip(members, labelled.stores, strict=True)
    own = [member.log_posteriors(store, ids=labelled.held_out, **options) for member, store in pairs]
    if len(members) == 1:
        return None, own[0]
    return score_ensemble(own, *labelled.labels_of(labelled.held_out), **ensemble)


def _predict(
    members: list[Member], weights: list[float], average: str, stores: list[FrameStore], options: dict[str, Any]
) -> tuple[Float[Tensor, "frame classes"], list[UInt8[Tensor, "frame"]]]:
    """Log-posteriors of the ensemble in every frame, and each member's own labels. One member in memory at a time."""
    answers = []

    def one_by_one() -> Iterator[Float[Tensor, "frame classes"]]:
        for member, store in zip(members, stores, strict=True):
            own = member.log_posteriors(store, **options)
            answers.append(own.argmax(dim=1).to(torch.uint8))
            yield own

    if len(members) == 1:
        return next(one_by_one()), answers
    return combine(one_by_one(), weights, average), answers


def _decoder(
    section: dict[str, Any],
    labelled: Labelled | None,
    validation: Float[Tensor, "frame classes"] | None,
    folder: Path,
) -> Callable[..., UInt8[Tensor, "frame"]]:
    """The function from log-posteriors and offsets to labels, its settings tuned; decoding.json says how it did."""
    name = section["name"]
    if name == "argmax":
        return argmax
    grid = {key: value for key, value in section.items() if isinstance(value, list)}
    decode = median_smoothing
    if name == "hmm":
        labels, offsets = labelled.labels_of(labelled.train)
        statistics = count_phones(labels, offsets, len(labelled.stores[0].phones), section["smoothing"])
        decode = partial(hmm_decoding, statistics=statistics)
    tuned = tune(decode, grid, validation, *labelled.labels_of(labelled.held_out))
    write_json(folder / "decoding.json", {"decode": name} | tuned.to_dict())
    log.info(
        "decode=%s: %s, the best of %d on %d validation utterances",
        name,
        " ".join(f"{key}={value}" for key, value in tuned.chosen.items()),
        tuned.tried,
        tuned.utterances,
    )
    log.info(
        "  validation accuracy %.4f, of argmax %.4f; cross-fitted gain %s",
        tuned.accuracy,
        tuned.argmax_accuracy,
        tuned.gain,
    )
    if tuned.gain.gain < 0:
        log.warning("  decode=argmax is better here")
    return partial(decode, **tuned.chosen)


def _leave_ensemble(
    members: list[Member],
    weights: list[float],
    ensemble: dict[str, str],
    score: EnsembleScore | None,
    agreeing: list[list[float]],
    folder: Path,
) -> None:
    """ensemble.json and the same on the terminal."""
    listed = [{"path": str(m.path), "weight": weight} for m, weight in zip(members, weights, strict=True)]
    content = {**ensemble, "members": listed, "test_agreement": agreeing, "validation": score and score.to_dict()}
    write_json(folder / "ensemble.json", content)
    log.info("ensemble of %d: %s average, %s weights", len(members), ensemble["average"], ensemble["weights"])
    for place, member in enumerate(listed):
        accuracy = f"validation accuracy {score.member_accuracies[place]:.4f}, " if score else ""
        log.info("  %s: %sweight %.3f", member["path"], accuracy, member["weight"])
    pairs = [share for place, row in enumerate(agreeing) for share in row[:place]]
    log.info("  two members agree on %.4f to %.4f of the test frames", min(pairs), max(pairs))
    if score:
        log.info("  ensemble: validation accuracy %.4f (%d utterances)", score.accuracy, score.utterances)
        log.info("  gain over the best member %s", score.gain_over_best_member)
        log.info("  gain over the mean member %s", score.gain_over_mean_member)
