"""The monitor: when it looks, what it leaves, that it changes nothing, and that its escape is a gain."""

import csv
import json

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer

from phoneme.callbacks import CriticalPointMonitor
from phoneme.datamodule import PhonemeData
from phoneme.errors import InputError
from tests.helpers import metrics, train_in

MONITOR = ("callbacks=diagnostics", "callbacks.critical_point.frames=64", "callbacks.critical_point.second=64")


def weights(folder) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def looks(folder) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted((folder / "critical_points").glob("*.json"))]


def test_with_every_callback_on_the_weights_are_bitwise_the_same(tmp_path):
    """Looking every few updates, with dropout and BatchNorm, gradients and histograms logged at every update."""
    plain = train_in(tmp_path / "plain", "model.norm=batch", "model.dropout=0.3")
    watched = train_in(
        tmp_path / "watched",
        "model.norm=batch",
        "model.dropout=0.3",
        *MONITOR,
        "callbacks.critical_point.every_n_steps=9",
        "callbacks.critical_point.every_n_epochs=1",
        "callbacks.gradient_logger.every_n_steps=1",
    )
    before, after = weights(tmp_path / "plain"), weights(tmp_path / "watched")
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert plain["val_loss"] == watched["val_loss"]
    assert len(looks(tmp_path / "watched")) > 5


def test_what_it_leaves_in_the_run_directory(tmp_path):
    train_in(tmp_path, *MONITOR, "callbacks.critical_point.every_n_epochs=1")
    found, last = looks(tmp_path), json.loads((tmp_path / "critical_point.json").read_text())
    assert [look["reason"] for look in found] == ["every 1 epochs", "every 1 epochs; the training has ended"]
    assert last == found[-1] and last["step"] > found[0]["step"] > 0
    assert last["verdict"] == "not_critical" and last["data"]["targets"] == 64
    assert last["lambda_max"]["value"] > 0 > last["lambda_min"]["value"]
    assert last["sharpness"]["ratio"] > 0 and last["sharpness"]["lr"] > 0  # of the last update, not the next one's 0
    assert last["bouncing"]["distance"] > 0
    figures = {path.name for path in (tmp_path / "figures").glob("*.png")}
    assert {"extremes.png", "taylor.png", "surface_over_training.png"} <= figures
    assert "not a critical point" in (tmp_path / "index.html").read_text().lower()
    logged = [row for row in metrics(tmp_path) if "critical_point/lambda_max" in row]
    assert [int(row["step"]) + 1 for row in logged] == [look["step"] for look in found]  # Lightning counts from 0
    assert float(logged[-1]["critical_point/lambda_max"]) == pytest.approx(last["lambda_max"]["value"])


def test_it_looks_once_on_each_plateau(tmp_path):
    """With a rate of (nearly) 0 the loss stands still from the second epoch on."""
    train_in(
        tmp_path,
        *MONITOR,
        "optim.lr=1e-9",
        "trainer.max_epochs=5",
        "callbacks.early_stopping=null",
        "callbacks.critical_point.plateau_epochs=2",
        "callbacks.critical_point.at_end=false",
    )
    assert [look["reason"] for look in looks(tmp_path)] == ["the training loss has stood still for 2 epochs"]
    assert looks(tmp_path)[0]["step"] == 3 * 63  # the first epoch's loss cannot stand still


def test_every_n_updates_means_the_last_of_an_epoch_too(tmp_path):
    train_in(tmp_path, *MONITOR, "callbacks.critical_point.every_n_steps=63", "callbacks.critical_point.at_end=false")
    assert [look["step"] for look in looks(tmp_path)] == [63, 126]


def test_a_training_that_stops_within_an_epoch_knows_its_last_update(tmp_path):
    train_in(tmp_path, *MONITOR, "trainer.max_steps=80", "callbacks.gradient_logger.every_n_steps=1")
    (look,) = looks(tmp_path)
    assert look["step"] == 80
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    ratios = {row["step"]: row["updates/ratio/total"] for row in rows if row["updates/ratio/total"]}
    weights_now = torch.cat([w.flatten() for name, w in weights(tmp_path).items() if name.endswith(("weight", "bias"))])
    length = float(ratios["79"]) * weights_now.double().norm().item()
    assert look["bouncing"]["distance"] == pytest.approx(length, rel=0.02)


def test_a_resumed_training_keeps_its_plateau_and_its_timeline(tmp_path):
    still = (*MONITOR, "optim.lr=1e-9", "callbacks.early_stopping=null", "callbacks.critical_point.plateau_epochs=2")
    train_in(tmp_path / "a", *still, "trainer.max_epochs=2", "callbacks.critical_point.every_n_epochs=1")
    train_in(
        tmp_path / "b", *still, "trainer.max_epochs=3", f"ckpt_path={tmp_path / 'a' / 'checkpoints' / 'last.ckpt'}"
    )
    (look,) = looks(tmp_path / "b")
    assert "stood still for 2 epochs" in look["reason"] and look["step"] == 3 * 63
    saved = torch.load(tmp_path / "b" / "checkpoints" / "last.ckpt", weights_only=True)["callbacks"]
    assert [row["step"] for row in saved["CriticalPointMonitor"]["timeline"]] == [63, 126, 189]


def test_a_look_that_fails_is_a_warning(tmp_path, caplog):
    """The whole spectrum of a network that is too large for memory."""
    summary = train_in(tmp_path, *MONITOR, "callbacks.critical_point.spectrum=exact", "model.width=400")
    assert "could not be looked at" in caplog.text and "free memory" in caplog.text
    assert summary["epochs"] == 2 and not looks(tmp_path)


class Still(LightningModule):
    """What the monitor needs of a classifier, at an exact saddle: all weights 0, the output bias at the log priors."""

    def __init__(self, data: PhonemeData):
        super().__init__()
        coeffs, classes = data.store.coeffs, len(data.store.phones)
        self.model = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(coeffs, 8), torch.nn.Tanh(), torch.nn.Linear(8, classes)
        )
        self.loss = torch.nn.CrossEntropyLoss(ignore_index=-100)
        for parameter in self.model.parameters():
            torch.nn.init.zeros_(parameter)

    def on_train_start(self) -> None:
        self.epoch_sums = torch.tensor([3.7, 0.0, 1.0])  # the loss of an epoch: always the same

    def training_step(self, batch, batch_idx):
        return 0.0 * self.loss(self.model(batch.inputs), batch.targets)

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.model.parameters(), lr=0.1)


def fit(tmp_path, data, **options) -> tuple[CriticalPointMonitor, Still]:
    module = Still(data)
    monitor = CriticalPointMonitor(str(tmp_path), plateau_epochs=2, at_end=False, tolerance=1e-3, **options)
    targets = torch.cat([t for _, t in data.probe(data.split.train, 512, 1024)])
    counts = torch.bincount(targets, minlength=len(data.store.phones)).double()
    with torch.no_grad():
        module.model[3].bias.copy_((counts / counts.sum()).clamp(min=1e-12).log())
    trainer = Trainer(
        max_epochs=4,
        limit_train_batches=2,
        limit_val_batches=0,
        callbacks=[monitor],
        logger=False,
        accelerator="cpu",
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(module, data)
    return monitor, module


@pytest.fixture
def data(tmp_path):
    from phoneme.runs.data import open_train
    from phoneme.splits import split_ids
    from tests.helpers import settings_of

    section = settings_of(tmp_path)["settings"]["data"]
    store = open_train(section)
    return PhonemeData(store, split_ids(store.ids, store.speakers, **section["split"]), batch_size=64)


def test_a_certified_saddle_on_a_plateau_is_left_and_the_loss_falls(tmp_path, data):
    monitor, module = fit(tmp_path, data, escape=True)
    (look,) = looks(tmp_path)
    assert look["verdict"] == "saddle", look["why"]
    batches = data.probe(data.split.train, 512, 1024)
    with torch.no_grad():
        loss = sum(module.loss(module.model(*inputs), targets).item() for inputs, targets in batches)
    assert look["loss"] - loss == pytest.approx(look["escape"]["best_measured"], rel=1e-3)
    assert look["escape"]["best_measured"] > 0 and look["escape"]["best_second_measured"] > 0
    assert monitor.answer.verdict == "saddle"


def test_without_escape_it_stays(tmp_path, data):
    _, module = fit(tmp_path, data)
    assert looks(tmp_path)[0]["verdict"] == "saddle"
    assert all((p == 0).all() for name, p in module.model.named_parameters() if name != "3.bias")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"every_n_epochs": 0}, "every_n_epochs"),
        ({"every_n_steps": -1}, "every_n_steps"),
        ({"escape": True, "plateau_epochs": None}, "escape"),
        ({"plateau_share": 5.0}, "plateau_share"),
        ({"spectrum": "exakt"}, "did you mean exact"),
        ({"tolerance": 0.0}, "tolerance"),
    ],
)
def test_schedules_that_make_no_sense_are_refused(options, match, tmp_path):
    with pytest.raises(InputError, match=match):
        CriticalPointMonitor(str(tmp_path), **options)


def test_a_data_module_without_a_probe_set_is_refused(tmp_path):
    from pytorch_lightning import LightningDataModule

    monitor, trainer = CriticalPointMonitor(str(tmp_path)), Trainer(logger=False, accelerator="cpu")
    trainer.datamodule = LightningDataModule()
    with pytest.raises(InputError, match="probe"):
        monitor.on_fit_start(trainer, LightningModule())
