"""A trained checkpoint over a test split: `prediction.csv`."""

import logging
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from phoneme.checkpoint import model_of, read_checkpoint
from phoneme.evaluation import predict
from phoneme.runs.data import check_fit, open_test
from phoneme.runs.device import pick_device
from phoneme.submission import check_sample, write_submission

log = logging.getLogger(__name__)


def run_predict(settings: dict[str, Any], folder: Path) -> Path:
    """Label the test split of `settings["data"]` (or of the data the checkpoint was trained on)."""
    checkpoint = read_checkpoint(settings["ckpt_path"])
    model = model_of(checkpoint, settings["ckpt_path"])
    section = settings["data"] or OmegaConf.to_container(
        OmegaConf.create(checkpoint["phoneme"]["config"]["data"]), resolve=True
    )
    store = open_test(section)
    check_fit(store, checkpoint["phoneme"])
    sample = section["sample_submission"]
    if sample:
        check_sample(sample, store.n_frames)
    answers = predict(model, store, pick_device(settings["device"]), settings["batch_size"])
    path = write_submission(folder / "prediction.csv", answers, store.n_frames, sample)
    log.info("submission: %s (%d rows)", path, store.n_frames)
    return path
