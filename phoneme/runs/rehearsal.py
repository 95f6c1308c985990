"""Before a search: can there be a training at every end of its space?"""

import torch

from phoneme.build import build
from phoneme.errors import InputError
from phoneme.losses import make_loss
from phoneme.optim import check_warmup_shape, make_optimizer, make_schedule
from phoneme.runs.compose import compose_sections
from phoneme.runs.data import open_stores
from phoneme.search import Space, corners, overrides_of

STEPS = 1_000_000  # of the schedules that are built: more than a training has


def rehearse(fixed: list[str], space: Space) -> int:
    """Read the data, then compose and build model, loss, optimizer and schedule at every end; returns the epochs.

    The parameters have no memory. Raises InputError for values that cannot be, and Hydra's errors for unknown settings.
    """
    for override in fixed:
        name = override.partition("=")[0].lstrip("+~")
        if name in space or name.startswith("hydra."):
            raise InputError(
                expected="settings that stay the same in all trials",
                got=override,
                where="train",
                hint=f"the space varies it: take it out of one of them, e.g. space.{name}=null"
                if name in space
                else "a trial's folder is the search's own: hydra.run.dir=… goes beside train=…, not into it",
            )
    sections = compose_sections(fixed, ("data", "trainer"))
    store = open_stores(sections["data"]).train
    for values in corners(space):
        _build([*fixed, *overrides_of(values)], store.coeffs, len(store.phones))
    return sections["trainer"]["max_epochs"]


def _build(overrides: list[str], coeffs: int, classes: int) -> None:
    sections = compose_sections(overrides, ("model", "loss", "optim", "schedule"))
    with torch.device("meta"):
        model = build(sections["model"], "model", coeffs=coeffs, classes=classes)
    make_loss(**sections["loss"])
    make_optimizer(model.parameters(), fused=False, **sections["optim"])
    check_warmup_shape(sections["schedule"].pop("warmup_shape"))
    make_schedule(total_steps=STEPS, **sections["schedule"])
