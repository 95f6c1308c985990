"""Gradients, updates and units, as numbers and histograms in every logger of the training."""

import logging
from typing import Any

import torch
import wandb
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger
from torch import Tensor
from torch.optim import Optimizer

from phoneme.errors import InputError
from phoneme.gradients import (
    Histogram,
    PerLayer,
    cosine,
    flat_units,
    gradient_histograms,
    gradient_norms,
    gradients_of,
    parameters_of,
    snapshot,
    step_between,
    update_ratios,
    weight_histograms,
)

log = logging.getLogger(__name__)

PICTURE_BINS = 64  # in W&B and TensorBoard: a quarter of a decade each for log10 |gradient|
Histograms = dict[tuple[str, str], Histogram]  # by the start of the name and the layer; between them goes its form
QUANTILES = {"q05": 0.05, "q50": 0.5, "q95": 0.95}


class GradientLogger(Callback):
    """Every `every_n_steps` updates, for the whole model (`total`) and for each layer:

    - `gradients/norm/LAYER`: L2 norm of the gradient, before clipping
    - `updates/ratio/LAYER`: length of the update over that of the weights
    - `updates/cosine`: of the angle between this update and the one before, from the second update on
    - `units/flat_share/LAYER`, `units/flat_output_share/LAYER`: dead or saturated units, and outputs, after the update,
      on the first `probe_rows` rows of the batch
    - with `histograms`: `gradients/log10_histogram/LAYER` (log10 of the entries' size) and `weights/histogram/LAYER`
      for W&B and TensorBoard; for a logger that holds no histogram the quantiles 5, 50 and 95 % of both, as
      `gradients/log10_q05/LAYER`, …, `weights/q95/LAYER`

    What each tells: `phoneme.gradients`. Gradients are read in `on_before_optimizer_step`, where they are accumulated,
    averaged over the processes and unscaled, and not yet clipped. The first process logs. Training is bitwise the one
    without. For two of the `every_n_steps` updates a copy of the weights is kept. `history` has the scalars of each
    logging step, with `step` and `learning_rate`, for a picture.

    Raises InputError for counts below 1.
    """

    def __init__(self, every_n_steps: int = 50, histograms: bool = True, probe_rows: int = 256):
        for name, value in {"every_n_steps": every_n_steps, "probe_rows": probe_rows}.items():
            if isinstance(value, bool) or value < 1:
                raise InputError(
                    expected="1 or more",
                    got=value,
                    where=f"GradientLogger, {name}",
                    hint="50 updates and 256 rows cost little; to switch it off set callbacks.gradient_logger=null",
                )
        self.every_n_steps, self.histograms, self.probe_rows = every_n_steps, histograms, probe_rows
        self.history: list[dict[str, int | float]] = []
        self._weights: dict[int, dict[str, Tensor]] = {}  # copies from before an update, by its step
        self._scalars: dict[str, int | float] = {}  # of the update in progress, if it is one to log
        self._histograms: Histograms = {}
        self._rate = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.history = state["history"]

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        if not self.history and trainer.is_global_zero:
            log.warning("no gradients were logged: the training has fewer than %d updates", self.every_n_steps)

    def on_before_optimizer_step(self, trainer: Trainer, module: LightningModule, optimizer: Optimizer) -> None:
        step = trainer.global_step
        if not (trainer.is_global_zero and (self._due(step) or self._due(step + 1))):
            return
        weights = parameters_of(module.model)
        self._weights = {s: w for s, w in self._weights.items() if s == step - 1} | {step: snapshot(weights)}
        if self._due(step):
            self._rate = float(optimizer.param_groups[0]["lr"])
            gradients = gradients_of(module.model)
            self._scalars = {"epoch": trainer.current_epoch} | _by_layer("gradients/norm", gradient_norms(gradients))
            if self.histograms:
                found = gradient_histograms(gradients)
                self._histograms = {("gradients/log10_", layer): histogram for layer, histogram in found.items()}

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not self._scalars:
            return
        step = trainer.global_step - 1  # the update that is done now
        after = parameters_of(module.model)
        self._scalars |= _by_layer("updates/ratio", update_ratios(self._weights[step], after))
        if step - 1 in self._weights:
            before, between = self._weights[step - 1], self._weights[step]
            self._scalars["updates/cosine"] = cosine(step_between(before, between), step_between(between, after)).total
        with torch.compiler.set_stance("force_eager"):  # compiled code runs past the hooks that look at activations
            units = flat_units(module.model, _probe(batch.arguments, self.probe_rows))
        self._scalars |= {f"units/flat_share/{layer}": found.units for layer, found in units.items()}
        self._scalars |= {f"units/flat_output_share/{layer}": found.outputs for layer, found in units.items()}
        if self.histograms:
            found = weight_histograms(after)
            self._histograms |= {("weights/", layer): histogram for layer, histogram in found.items()}
        for logger in trainer.loggers:
            log_to(logger, self._scalars, self._histograms, step)
        self.history.append({"step": step, "learning_rate": self._rate} | self._scalars)
        self._scalars, self._histograms = {}, {}
        self._weights = {step: self._weights[step]} if self._due(step + 1) else {}

    def _due(self, step: int) -> bool:
        """As the trainer's `log_every_n_steps` counts."""
        return (step + 1) % self.every_n_steps == 0


def log_to(logger: Logger, scalars: dict[str, int | float], histograms: Histograms, step: int) -> None:
    """Hand numbers and histograms to a logger, in the form that it can hold."""
    if isinstance(logger, WandbLogger):
        pictures = {f"{start}histogram/{layer}": _for_wandb(found) for (start, layer), found in histograms.items()}
        logger.log_metrics(scalars | pictures, step)
    elif isinstance(logger, TensorBoardLogger):
        logger.log_metrics(scalars, step)
        for (start, layer), found in histograms.items():
            _add_to_tensorboard(logger.experiment, f"{start}histogram/{layer}", found, step)
    else:
        quantiles = {
            f"{start}{name}/{layer}": found.quantile(share)
            for (start, layer), found in histograms.items()
            for name, share in QUANTILES.items()
        }
        logger.log_metrics(scalars | quantiles, step)


def _for_wandb(histogram: Histogram) -> wandb.Histogram:
    coarse = histogram.coarse(PICTURE_BINS)
    return wandb.Histogram(np_histogram=(coarse.counts.tolist(), coarse.edges.tolist()))


def _add_to_tensorboard(writer: Any, tag: str, histogram: Histogram, step: int) -> None:
    """`add_histogram` with the counting done; the sums, which are shown nowhere, are those of the bins' middles."""
    coarse = histogram.coarse(PICTURE_BINS)
    middles = (coarse.edges[1:] + coarse.edges[:-1]) / 2
    writer.add_histogram_raw(
        tag,
        min=coarse.low,
        max=coarse.high,
        num=coarse.counts.sum().item(),
        sum=(coarse.counts * middles).sum().item(),
        sum_squares=(coarse.counts * middles**2).sum().item(),
        bucket_limits=coarse.edges[1:].tolist(),
        bucket_counts=coarse.counts.tolist(),
        global_step=step,
    )


def _by_layer(group: str, values: PerLayer) -> dict[str, float]:
    return {f"{group}/total": values.total} | {f"{group}/{layer}": value for layer, value in values.layers.items()}


def _probe(arguments: tuple[Tensor, ...], rows: int) -> tuple[Tensor, ...]:
    """The first frames of a batch; of whole utterances `(inputs, lengths)` the first, as long as they are."""
    if len(arguments) == 1:
        return (arguments[0][:rows],)
    inputs, lengths = arguments
    kept = max(1, rows // inputs.shape[1])
    return inputs[:kept, : int(lengths[:kept].max())], lengths[:kept]
