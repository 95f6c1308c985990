"""Frames, seconds, memory and FLOPs of an epoch."""

import csv
import time
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import nn

from phoneme.callbacks import Throughput
from phoneme.callbacks.flops import PEAK_TFLOPS, flops_of, peak_flops, peak_of
from phoneme.models import NORMS, Mlp
from tests.helpers import train_in


def epochs_of(folder):
    with (folder / "metrics.csv").open() as file:
        rows = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
    return [row for row in rows if "train/frames_per_second" in row]


class Slow(Callback):
    """0.2 s in a batch, which is no data; 0.5 s in a validation, which is neither."""

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if batch_idx == 0:
            time.sleep(0.2)

    def on_validation_batch_start(self, trainer, module, batch, batch_idx, dataloader_idx=0):
        if batch_idx == 0:
            time.sleep(0.5)


def test_an_epoch(tmp_path):
    start = time.perf_counter()
    train_in(tmp_path, "+callbacks.slow={_target_: tests.callbacks.test_throughput.Slow}")
    wall = time.perf_counter() - start
    rows = epochs_of(tmp_path)
    assert len(rows) == 2
    for row in rows:
        assert {name for name in row if name not in ("epoch", "step") and name.split("/")[0] == "train"} == {
            "train/loss",
            "train/accuracy",
            "train/frames_per_second",
            "train/data_seconds",
            "train/model_flops_per_second",
            "train/peak_memory_gib",
        }
        macs = 5 * 39 * 32 + 32 * 32 + 32 * 41
        flops_per_frame = 6 * macs - 2 * 5 * 39 * 32  # no gradient of the inputs
        assert row["train/model_flops_per_second"] / row["train/frames_per_second"] == pytest.approx(flops_per_frame)
        assert 0.05 < row["train/peak_memory_gib"] < 50
        assert 0 < row["train/data_seconds"] < wall - 2 * (0.2 + 0.5)
    assert rows[1]["train/peak_memory_gib"] >= rows[0]["train/peak_memory_gib"]


class Module(LightningModule):
    """What the callback asks of a module."""

    def __init__(self, model):
        super().__init__()
        self.model, self.epoch_sums, self.logged = model, torch.zeros(3), {}

    def log_dict(self, dictionary, **options):
        self.logged |= dictionary


def test_waiting_for_the_loader_is_data_and_a_validation_within_the_epoch_is_not(monkeypatch):
    now = [0.0]
    trainer, module = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False), Module(nn.Linear(3, 2))
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    batch = SimpleNamespace(arguments=(torch.zeros(50, 3),), targets=torch.zeros(50))
    throughput = Throughput()
    throughput.on_train_start(trainer, module)
    throughput.on_train_epoch_start(trainer, module)
    for _ in range(2):
        now[0] += 1  # the loader
        throughput.on_train_batch_start(trainer, module, batch, 0)
        now[0] += 10  # the update
        throughput.on_train_batch_end(trainer, module, None, batch, 0)
        throughput.on_validation_start(trainer, module)
        now[0] += 100
        throughput.on_validation_end(trainer, module)
    module.epoch_sums[-1] = 100
    throughput.on_train_epoch_end(trainer, module)
    assert module.logged["train/data_seconds"] == 2 and module.logged["train/frames_per_second"] == 100 / 22
    rate = module.logged["train/model_flops_per_second"]
    assert rate == pytest.approx(100 / 22 * (2 * 2 * 3 * 2)) and "train/model_flops_utilisation" not in module.logged
    assert throughput.frames_per_second == 100 / 22
    throughput._peak = 1e3
    throughput.on_train_epoch_end(trainer, module)
    assert module.logged["train/model_flops_utilisation"] == pytest.approx(rate / 1e3)


@pytest.mark.parametrize("norm", NORMS)
def test_flops_of_every_mlp_by_hand_and_without_a_trace(norm):
    torch.manual_seed(0)
    model = Mlp(coeffs=5, classes=7, context=3, depth=2, width=16, norm=norm, activation="relu", dropout=0.3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    random = torch.get_rng_state()
    counted = flops_of(model, (torch.zeros(10, 3, 5),))
    macs = 15 * 16 + 16 * 16 + 16 * 7
    if norm == "spectral":  # the power iteration is work too
        assert 10 * (6 * macs - 2 * 15 * 16) <= counted
    else:
        assert counted == 10 * (6 * macs - 2 * 15 * 16)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert torch.equal(random, torch.get_rng_state()) and all(p.grad is None for p in model.parameters())


def test_a_model_that_cannot_be_counted_is_said(caplog):
    class Looks(nn.Linear):
        def forward(self, x):
            return super().forward(x) if x.sum().item() else x

    batch = SimpleNamespace(arguments=(torch.zeros(4, 3),), targets=torch.zeros(4))
    assert Throughput()._count(Module(Looks(3, 3)), batch) == 0.0
    assert "no FLOP/s: they cannot be counted for this model" in caplog.text


@pytest.mark.parametrize(
    ("name", "kind", "tflops"),
    [
        ("NVIDIA H200", "bf16", 989.5),
        ("NVIDIA H100 80GB HBM3", "tf32", 494.5),
        ("NVIDIA A100-SXM4-80GB", "bf16", 312),
        ("A100-PCIE-40GB", "fp32", 19.5),
        ("Tesla V100-SXM2-16GB", "fp16", 125),
        ("Tesla V100-SXM2-16GB", "bf16", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "bf16", None),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "bf16", None),
        ("NVIDIA GH200 480GB", "bf16", None),
        ("something new", "fp32", None),
        ("NVIDIA H200", None, None),
    ],
)
def test_the_peak_of_a_device_is_known_or_not(name, kind, tflops):
    assert peak_of(name, kind) == (None if tflops is None else pytest.approx(tflops * 1e12))


def test_peaks_are_dense_and_in_order():
    """A faster format is not slower; the half formats are at most 16 times float32 (Hopper: 14.8)."""
    for peaks in PEAK_TFLOPS.values():
        assert peaks["fp32"] <= peaks.get("tf32", peaks["fp32"]) < peaks["fp16"] < 17 * peaks["fp32"]
        assert peaks.get("bf16", peaks["fp16"]) == peaks["fp16"]


def test_a_cpu_has_no_peak():
    assert peak_flops(torch.device("cpu"), "32-true") is None
