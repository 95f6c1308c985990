"""Where on the error surface a training is: on a schedule, on a plateau, at the end."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from phoneme.curvature import CriticalPoint, analyse
from phoneme.curvature.objective import Objective
from phoneme.curvature.parameters import select
from phoneme.curvature.settings import Settings
from phoneme.curvature.steps import of_the_optimizer
from phoneme.errors import InputError
from phoneme.files import write_json
from phoneme.gradients import parameters_of, snapshot

log = logging.getLogger(__name__)


class CriticalPointMonitor(Callback):
    """Asks `phoneme.curvature.analyse` about the network in training, on a probe set that stays the same.

    It looks after every `every_n_epochs` epochs and `every_n_steps` updates, on a plateau (the training loss has not
    fallen by the share `plateau_share` within `plateau_epochs` epochs; once a plateau) and `at_end`; None switches one
    off. The probe set has `frames` frames of the training utterances, and `second` of the validation utterances, on
    which an escape has to hold as well. `spectrum`, `tolerance` and `seed` are those of `analyse`.

    Each answer goes to DIRPATH/critical_points/step-N.json, the newest also to DIRPATH/critical_point.json, and its
    numbers to every logger as critical_point/...: with the sharpness against the optimizer's threshold, and whether
    the last update bounced between the walls of a valley.

    With `escape`, a plateau at a certified saddle is left along the direction that bends down, as far as the loss falls
    on both sets, and what that gained is said. Only then does the callback change the training: without it the weights
    are bitwise those of a training without the callback.

    Model, loss and the epoch's training loss are those of `PhonemeClassifier`, the frames come from the data module's
    `probe`. Where there are several processes the first looks, and the others wait.
    """

    def __init__(
        self,
        dirpath: str,
        frames: int = 512,
        second: int = 512,
        batch_size: int = 1024,
        every_n_epochs: int | None = None,
        every_n_steps: int | None = None,
        plateau_epochs: int | None = 3,
        plateau_share: float = 0.01,
        at_end: bool = True,
        spectrum: str = "extremes",
        tolerance: float = 1e-2,
        escape: bool = False,
        seed: int = 0,
    ):
        for name, value in (
            ("every_n_epochs", every_n_epochs),
            ("every_n_steps", every_n_steps),
            ("plateau_epochs", plateau_epochs),
        ):
            if value is not None and value < 1:
                raise InputError(
                    expected="at least 1, or null for never", got=value, where=name, hint="10 epochs, 1000 updates"
                )
        if not 0 < plateau_share < 1:
            raise InputError(
                expected="a share in (0, 1)",
                got=plateau_share,
                where="plateau_share",
                hint="0.01: less than 1 % is still",
            )
        Settings(spectrum, tolerance, None, None, seed)
        if escape and plateau_epochs is None:
            raise InputError(
                expected="plateaus to escape from",
                got="plateau_epochs=null",
                where="escape",
                hint="set plateau_epochs, e.g. 3",
            )
        self.folder = Path(dirpath)
        self.sizes = {"frames": frames, "batch_size": batch_size, "seed": seed}
        self.second = second
        self.every_n_epochs, self.every_n_steps = every_n_epochs, every_n_steps
        self.plateau_epochs, self.plateau_share = plateau_epochs, plateau_share
        self.at_end, self.escape = at_end, escape
        self.options = {"spectrum": spectrum, "tolerance": tolerance, "seed": seed}
        self.answer: CriticalPoint | None = None  # the newest
        self.when: dict[str, Any] = {}  # step and reason of the newest answer
        self.timeline: list[dict[str, Any]] = []  # the numbers of all of them
        self._best_loss, self._waited = float("inf"), 0
        self._rate: float | None = None  # of the newest update
        self._before: tuple[int, dict[str, Tensor]] = (-1, {})  # an update and the parameters before it

    # -- when ----------------------------------------------------------------------------------------------

    def on_fit_start(self, trainer: Trainer, module: LightningModule) -> None:
        data = trainer.datamodule
        if not hasattr(data, "probe"):
            raise InputError(
                expected="a data module with a method `probe`, as PhonemeData has",
                got=type(data).__name__,
                where="CriticalPointMonitor",
                hint="or call phoneme.curvature.analyse yourself",
            )
        self.batches = data.probe(data.split.train, **self.sizes)
        self.other = data.probe(data.split.val, **self.sizes | {"frames": self.second}) if data.split.val else None

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: Any, batch_idx: int) -> None:
        step = trainer.global_step
        due = self.every_n_steps and (step + 1) % self.every_n_steps == 0
        if (trainer.is_last_batch or due or step + 1 == trainer.max_steps) and self._before[0] != step:
            self._before = (step, snapshot(parameters_of(module.model)))

    def on_before_optimizer_step(self, trainer: Trainer, module: LightningModule, optimizer: Optimizer) -> None:
        self._rate = float(optimizer.param_groups[0]["lr"])

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        done = (batch_idx + 1) % trainer.accumulate_grad_batches == 0 or trainer.is_last_batch
        if self.every_n_steps and done and trainer.global_step % self.every_n_steps == 0:
            self._look(trainer, module, f"every {self.every_n_steps} updates")

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        loss, _, frames = module.all_gather(module.epoch_sums).view(-1, 3).sum(0).tolist()
        if self._stands_still(loss / frames):
            self._look(trainer, module, f"the training loss has stood still for {self.plateau_epochs} epochs")
            if self.escape and self.answer is not None:
                self._leave(trainer, module)
        elif self.every_n_epochs and epoch % self.every_n_epochs == 0:
            self._look(trainer, module, f"every {self.every_n_epochs} epochs")

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        if self.at_end:
            self._look(trainer, module, "the training has ended")

    def _stands_still(self, loss: float) -> bool:
        """Whether this epoch completes a plateau."""
        if loss < self._best_loss * (1 - self.plateau_share):
            self._best_loss, self._waited = loss, 0
        else:
            self._waited += 1
        return self._waited == self.plateau_epochs

    # -- what ----------------------------------------------------------------------------------------------

    def _look(self, trainer: Trainer, module: LightningModule, reason: str) -> None:
        """Once an update; a second reason for the same one is added to the first."""
        if trainer.is_global_zero:
            if self.when.get("step") == trainer.global_step and self.answer is not None:
                self.when["reason"] += f"; {reason}"
                self._write()
            else:
                self._ask(trainer, module, reason)
        trainer.strategy.barrier()

    def _ask(self, trainer: Trainer, module: LightningModule, reason: str) -> None:
        """A look that fails is a warning: the training is worth more."""
        step = trainer.global_step
        try:
            answer = analyse(module.model, module.loss, self.batches, second=self.other, **self.options)
            self.answer = replace(answer, **self._of_the_optimizer(trainer, module))
        except InputError as error:
            log.warning("update %d: the error surface could not be looked at: %s", step, error)
            return
        self.when = {"step": step, "reason": reason}
        self._write()
        numbers = _numbers(self.answer)
        self.timeline.append({"step": step, "verdict": answer.verdict} | numbers)
        for logger in trainer.loggers:
            named = {f"critical_point/{name}": value for name, value in numbers.items()}
            logger.log_metrics(named, step=step - 1)  # Lightning counts updates from 0
        log.info("update %d (%s): %s: %s", step, reason, answer.verdict.replace("_", " "), answer.why)

    def _write(self) -> None:
        content = self.when | self.answer.to_dict()
        write_json(self.folder / "critical_points" / f"step-{self.when['step']:06d}.json", content)
        write_json(self.folder / "critical_point.json", content)

    def _of_the_optimizer(self, trainer: Trainer, module: LightningModule) -> dict[str, Any]:
        objective = Objective(module.model, module.loss, self.batches)
        step, before = self._before
        known = step == trainer.global_step - 1 and before.keys() >= set(objective.selection.names)
        points = {}
        if known:
            flat = objective.selection.flatten([before[name] for name in objective.selection.names])
            points = {"before": flat, "after": objective.point}
        seed = self.options["seed"]
        return of_the_optimizer(objective, trainer.optimizers[0], lr=self._rate, seed=seed, **points)

    # -- checkpoints ---------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        return {"best_loss": self._best_loss, "waited": self._waited, "timeline": self.timeline}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._best_loss, self._waited, self.timeline = state["best_loss"], state["waited"], state["timeline"]

    # -- the way out ---------------------------------------------------------------------------------------

    def _leave(self, trainer: Trainer, module: LightningModule) -> None:
        """Step out of a certified saddle, in every process, if that lowers the loss on both sets."""
        step = trainer.strategy.broadcast(self._way_out() if trainer.is_global_zero else None)
        if step is None:
            return
        selection = select(module.model)
        with torch.no_grad():
            own = dict(module.model.named_parameters())
            for name, part in zip(selection.names, selection.split(step.to(module.device)), strict=True):
                own[name].add_(part.to(own[name]))

    def _way_out(self) -> Tensor | None:
        """The step on the CPU: the best radius if it holds on the second set, else the trusted one, else none."""
        found = self.answer.escape
        if self.answer.verdict != "saddle" or found is None:
            return None
        for radius, fall, second in (
            (found.best_radius, found.best_measured, found.best_second_measured),
            (found.radius, found.measured, found.second_measured),
        ):
            if radius is not None and fall > 0 and (second is None or second > 0):
                elsewhere = "" if second is None else f", on validation frames by {second:.3g}"
                log.info("left the saddle by a step of %.3g: the loss fell by %.3g%s", radius, fall, elsewhere)
                return radius * found.direction.cpu()
        log.info("no way out of the saddle lowers the loss on both sets: training goes on where it is")
        return None


def _numbers(answer: CriticalPoint) -> dict[str, float]:
    """What a dashboard draws; a number that is not there is left out."""
    values = {
        "loss": answer.loss,
        "gradient_norm": answer.gradient_norm,
        "gradient_norm_relative": answer.gradient_norm_relative,
        "lambda_min": answer.lambda_min.value,
        "lambda_max": answer.lambda_max.value,
        "is_critical": float(answer.verdict != "not_critical"),
        "is_saddle": float(answer.verdict == "saddle"),
        "sharpness_over_threshold": answer.sharpness.ratio if answer.sharpness else None,
        "bouncing": float(answer.bouncing.bouncing) if answer.bouncing else None,
        "escape_decrease": answer.escape.best_measured if answer.escape else None,
    }
    return {name: value for name, value in values.items() if value is not None}
