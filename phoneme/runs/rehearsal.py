"""Before a search: can there be a training at every end of its space?"""

from typing import Any

import torch
from hydra.errors import ConfigCompositionException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError

from phoneme.build import build
from phoneme.columns import Features
from phoneme.errors import InputError
from phoneme.losses import make_loss
from phoneme.optim import check_warmup_shape, make_optimizer, make_schedule
from phoneme.runs.compose import compose_sections
from phoneme.runs.data import Stores, open_stores
from phoneme.runs.train import make_augment
from phoneme.search import Space, corners, overrides_of
from phoneme.search.space import Value

SECTIONS = ("features", "model", "augment", "loss", "optim", "schedule")  # what is built
STEPS = 1_000_000  # of the schedules that are built: more than a training has


def rehearse(fixed: list[str], space: Space) -> int:
    """Read the data, then compose and build all that a training needs at every end; returns the epochs.

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
    fixed_sections = compose_sections(fixed, ("data", "trainer"))
    opened: dict[Features, Stores] = {}
    for values in corners(space):
        sections = _compose(fixed, values)
        features = Features(**sections["features"])
        if features not in opened:
            opened[features] = open_stores(fixed_sections["data"], features)
        _build(sections, opened[features])
    return fixed_sections["trainer"]["max_epochs"]


def _compose(fixed: list[str], values: dict[str, Value]) -> dict[str, Any]:
    try:
        return compose_sections([*fixed, *overrides_of(values)], SECTIONS)
    except ConfigCompositionException as error:
        name = getattr(error.__cause__, "full_key", None)
        if name not in values or not isinstance(error.__cause__, (ConfigKeyError, ConfigAttributeError)):
            raise
        raise InputError(
            expected="a space of settings that the trainings of `train` have",
            got=name,
            where=f"space.{name}",
            hint=f"correct its name, take it out (space.{name}=null), or choose another space (--help lists them)",
        ) from error


def _build(sections: dict[str, Any], stores: Stores) -> None:
    coeffs = stores.train.coeffs
    with torch.device("meta"):
        model = build(sections["model"], "model", coeffs=coeffs, classes=len(stores.train.phones))
    make_augment(sections["augment"], model, stores.features, coeffs)
    make_loss(**sections["loss"])
    make_optimizer(model.parameters(), fused=False, **sections["optim"])
    check_warmup_shape(sections["schedule"].pop("warmup_shape"))
    make_schedule(total_steps=STEPS, **sections["schedule"])
