"""The rates that updates are really made with, under every kind of schedule."""

import csv
import warnings

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.plugins.precision import MixedPrecision
from torch.optim import SGD, lr_scheduler

from phoneme.callbacks import LearningRateWarmup
from phoneme.checkpoint import read_checkpoint
from phoneme.errors import InputError
from phoneme.optim import make_schedule, make_warmup
from tests.helpers import metrics, settings_of, train_in
from tests.runs.test_train import PLUG, same_bits, weights

RATE, BATCHES = 0.1, 12


class Line(LightningModule):
    """One weight, whose gradient is -1: each update adds the rate, which is so measured and not read."""

    def __init__(self, scheduler=None, interval="step", **config):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.scheduler, self.config = scheduler, {"interval": interval, **config}
        self.shown, self.used = [], []

    def training_step(self, batch, batch_idx):
        self.shown.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        self.log("loss", 1.0, on_epoch=True)
        return -self.weight.sum()

    def on_train_batch_start(self, batch, batch_idx):
        self.before = self.weight.item()

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.used.append(self.weight.item() - self.before)

    def configure_optimizers(self):
        optimizer = SGD(self.parameters(), lr=RATE)
        if self.scheduler is None:
            return optimizer
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self.scheduler(optimizer), **self.config},
        }


def fit(module, *callbacks, plugins=(), **options):
    options = {"max_epochs": 1, "limit_train_batches": BATCHES} | options
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
        plugins=list(plugins),
        **options,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The 'train_dataloader' does not have many workers")
        trainer.fit(module, torch.utils.data.DataLoader(torch.zeros(BATCHES)))
    return module


SCHEDULERS = {
    "none": None,
    "constant": lambda optimizer: lr_scheduler.LambdaLR(optimizer, make_schedule(name="constant", total_steps=12)),
    "cosine": lambda optimizer: lr_scheduler.LambdaLR(optimizer, make_schedule(name="cosine", total_steps=12)),
    "recursive cosine": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, 12),
    "StepLR": lambda optimizer: lr_scheduler.StepLR(optimizer, 2, gamma=0.5),
}


@pytest.mark.parametrize("shape", ["linear", "cosine", "exponential"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_rate_is_the_schedules_times_the_factor(name, shape):
    plain = fit(Line(SCHEDULERS[name])).used
    warm = fit(Line(SCHEDULERS[name]), LearningRateWarmup(7, shape))
    factor = make_warmup(steps=7, shape=shape)
    assert warm.used == pytest.approx([rate * factor(step) for step, rate in enumerate(plain)], rel=1e-9)
    assert warm.shown == pytest.approx(warm.used, rel=1e-9)
    assert name in ("none", "constant") or plain[-1] < 0.1 * plain[0]


def test_a_schedule_that_watches_a_metric_never_sees_a_scaled_rate():
    """The loss never falls: from the second epoch on, the rate is halved after each."""
    module = Line(
        lambda optimizer: lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0),
        interval="epoch",
        monitor="loss",
    )
    fit(module, LearningRateWarmup(30), max_epochs=4)
    plain = [RATE] * 24 + [RATE / 2] * 12 + [RATE / 4] * 12
    assert module.used == pytest.approx([r * min(1, (s + 1) / 30) for s, r in enumerate(plain)], rel=1e-9)


def test_accumulated_batches_count_once():
    module = fit(Line(SCHEDULERS["StepLR"]), LearningRateWarmup(3), accumulate_grad_batches=2)
    updates = [RATE / 3, RATE * 2 / 3, RATE / 2, RATE / 2, RATE / 4, RATE / 4]
    assert module.used[1::2] == pytest.approx(updates, rel=1e-9)
    assert module.used[0::2] == [0.0] * 6
    assert module.shown == pytest.approx([rate for rate in updates for _ in range(2)], rel=1e-9)


def test_the_groups_hold_the_schedules_rate_between_batches():
    found = []

    class Look(Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            found.append(trainer.optimizers[0].param_groups[0]["lr"])

    fit(Line(), LearningRateWarmup(10), Look(), accumulate_grad_batches=2)
    assert found == [RATE] * BATCHES


def test_a_share_is_of_all_updates():
    module = fit(Line(), LearningRateWarmup(0.25, "cosine"), max_epochs=2)
    factor = make_warmup(steps=6, shape="cosine")
    assert module.used == pytest.approx([RATE * factor(step) for step in range(24)], rel=1e-9)


def test_an_update_that_the_scaler_skips_leaves_the_rate_as_it_was():
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=1000)
    module = Line(lambda optimizer: lr_scheduler.StepLR(optimizer, 6, gamma=0.5))
    module.weight = torch.nn.Parameter(torch.zeros(1))

    def step(batch, batch_idx):  # a gradient of 4 times the scale overflows until that has been halved twice
        module.shown.append(module.trainer.optimizers[0].param_groups[0]["lr"])
        return -4 * module.weight.sum()

    module.training_step = step
    plugin = MixedPrecision("16-mixed", "cpu", scaler=scaler)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
        fit(module, LearningRateWarmup(10), plugins=[plugin])
    schedule = [RATE] * 6 + [RATE / 2] * 6
    rates = [rate * min(1, (step + 1) / 10) for step, rate in enumerate(schedule)]
    assert module.used[:2] == [0.0, 0.0]
    assert module.used[2:] == pytest.approx([4 * rate for rate in rates[2:]], rel=1e-5)
    assert module.shown == pytest.approx(rates, rel=1e-9)


def test_manual_optimization_where_the_schedule_steps_within_the_batch():
    module = Line(SCHEDULERS["StepLR"])
    module.automatic_optimization = False

    def step(batch, batch_idx):
        optimizer, scheduler = module.optimizers(), module.lr_schedulers()
        optimizer.zero_grad()
        module.manual_backward(-module.weight.sum())
        optimizer.step()
        scheduler.step()

    module.training_step = step
    fit(module, LearningRateWarmup(5))
    assert module.used == pytest.approx([RATE * 0.5 ** (s // 2) * min(1, (s + 1) / 5) for s in range(12)], rel=1e-9)


def test_after_an_error_the_optimizer_is_as_it_would_be_without():
    module = Line()
    warmup = LearningRateWarmup(10)
    optimizers = []

    def step(batch, batch_idx):
        optimizers.append(module.trainer.optimizers[0])
        raise RuntimeError("on purpose")

    module.training_step = step
    with pytest.raises(RuntimeError, match="on purpose"):
        fit(module, warmup)
    (optimizer,) = optimizers
    assert optimizer.param_groups[0]["lr"] == RATE
    assert not optimizer._optimizer_step_pre_hooks and not optimizer._optimizer_step_post_hooks


@pytest.mark.parametrize("steps", [0, -1, True, 0.0, 1.0, 3.5, -0.1, float("nan")])
def test_a_length_that_cannot_be(steps):
    with pytest.raises(InputError, match=r"(?s)a share of the training in \(0, 1\), got .*LearningRateWarmup, steps"):
        LearningRateWarmup(steps)


def test_an_unknown_shape():
    with pytest.raises(InputError, match=r"(?s)got exponentail.*did you mean exponential\?"):
        LearningRateWarmup(5, "exponentail")


def test_a_share_of_a_training_without_an_end():
    with pytest.raises(InputError, match=r"(?s)length is known, got no limit.*steps=0\.1[\s\S]*trainer\.max_epochs"):
        fit(Line(), LearningRateWarmup(0.1), max_epochs=-1)


def test_a_warmup_longer_than_the_training_is_a_warning(caplog):
    module = fit(Line(), LearningRateWarmup(24))
    assert module.used == pytest.approx([RATE * (step + 1) / 24 for step in range(12)], rel=1e-9)
    assert "schedule.warmup_steps=24) is longer than the training (12 steps)" in caplog.text
    caplog.clear()
    fit(Line(), LearningRateWarmup(12))
    assert not caplog.records


# -- in phoneme-train ----------------------------------------------------------------------------------------

ONE_EPOCH = ("trainer.max_epochs=1", "trainer.log_every_n_steps=1", "callbacks=none", "logger=csv")


def logged_rates(folder):
    with (folder / "metrics.csv").open() as file:
        return [float(row["train/learning_rate"]) for row in csv.DictReader(file) if row["train/learning_rate"]]


@pytest.mark.parametrize("shape", ["linear", "cosine", "exponential"])
def test_warms_up_without_callbacks_and_logs_the_rate_in_use(tmp_path, shape):
    train_in(tmp_path, *ONE_EPOCH, "schedule.warmup_steps=20", f"schedule.warmup_shape={shape}")
    rates = logged_rates(tmp_path)
    total = len(rates)
    warmup = make_warmup(steps=20, shape=shape)
    factor = make_schedule(name="cosine", total_steps=total, warmup_steps=20)
    assert total > 30 and rates == pytest.approx([1e-3 * factor(s) * warmup(s) for s in range(total)], rel=1e-6)


def test_a_resume_in_mid_warmup_is_bitwise_the_uninterrupted_run(tmp_path):
    recipe = (
        "trainer.max_epochs=2",
        "schedule.warmup_steps=60",
        "schedule.warmup_shape=exponential",
        "callbacks.last_checkpoint.every_n_train_steps=25",
        "trainer.log_every_n_steps=1",
        "trainer.limit_train_batches=40",
    )
    train_in(tmp_path / "whole", *recipe)
    with pytest.raises(RuntimeError, match="the plug was pulled"):
        train_in(tmp_path / "first", *recipe, PLUG % 30)
    last = tmp_path / "first" / "checkpoints" / "last.ckpt"
    checkpoint = read_checkpoint(last)
    assert checkpoint["global_step"] == 25
    assert checkpoint["optimizer_states"][0]["param_groups"][0]["lr"] == 1e-3  # the schedule's own
    assert not any("Warmup" in name for name in checkpoint["callbacks"])
    train_in(tmp_path / "second", *recipe, f"ckpt_path={last}")
    assert same_bits(weights(tmp_path / "whole"), weights(tmp_path / "second"))
    after = [row for row in metrics(tmp_path / "whole") if int(row["step"]) >= 25]
    assert metrics(tmp_path / "second") == after and len(after) > 50


SECOND = "+callbacks.warmup={_target_: phoneme.callbacks.LearningRateWarmup, steps: %s}"


def test_two_warmups_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"(?s)one warm-up, got two warm-ups.*schedule\.warmup_steps=0"):
        train_in(tmp_path, SECOND % 10)


def test_one_in_the_callbacks_is_the_same_as_the_schedules(tmp_path):
    train_in(tmp_path / "a", *ONE_EPOCH, "schedule=constant", "schedule.warmup_steps=9")
    train_in(tmp_path / "b", *ONE_EPOCH, "schedule=constant", "schedule.warmup_steps=0", SECOND % 9)
    assert metrics(tmp_path / "a") == metrics(tmp_path / "b")


@pytest.mark.parametrize("steps", [0, 5])
def test_a_mistyped_shape_is_refused_with_and_without_a_warmup(tmp_path, steps):
    with pytest.raises(InputError, match=r"(?s)got liner.*schedule\.warmup_shape.*did you mean linear\?"):
        train_in(tmp_path, f"schedule.warmup_steps={steps}", "schedule.warmup_shape=liner")


def test_the_shape_is_in_every_schedule(tmp_path):
    for name in ("constant", "cosine", "linear", "step", "warmup_cosine"):
        assert settings_of(tmp_path, f"schedule={name}")["settings"]["schedule"]["warmup_shape"] == "linear"
