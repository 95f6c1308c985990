"""What one update of a model on whole utterances is: label smoothing, accumulation and clipping, by hand."""

import copy

import pytest
import torch
import torch.nn.functional as F
from pytorch_lightning import Callback

from phoneme.gradients.norms import gradient_norms, parameters_of, snapshot, step_between
from phoneme.losses import IGNORE
from tests.helpers import TINY_SEQUENCE, metrics, train_in

RATE = 0.5
MODELS = ("gru", "tcn", "conformer")
PLAIN = (*TINY_SEQUENCE, "model.dropout=0", "optim=sgd", f"optim.lr={RATE}", "optim.weight_decay=0")
EXACT = (*PLAIN, "schedule=constant", "schedule.warmup_steps=0", "trainer.max_epochs=1", "trainer.log_every_n_steps=1")
WITNESS = "+callbacks.witness={_target_: tests.runs.test_updates.Witness}"


class Witness(Callback):
    """Keeps the network as it began, the batches, and the weights after each of them."""

    model: torch.nn.Module
    batches: list
    weights: list[dict[str, torch.Tensor]]

    def on_train_start(self, trainer, module):
        Witness.model, Witness.batches = copy.deepcopy(module.model), []
        Witness.weights = [snapshot(parameters_of(module.model))]

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        Witness.batches.append(batch)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        Witness.weights.append(snapshot(parameters_of(module.model)))


def loss_by_hand(model, batch, smoothing=0.0):
    """The mean over real frames, found one utterance at a time, each by itself and without padding."""
    total, frames = torch.tensor(0.0), 0
    for inputs, targets, n in zip(batch.inputs, batch.targets, batch.lengths.tolist(), strict=True):
        logits = model(inputs[None, :n], torch.tensor([n]))[0]
        assert (targets[:n] != IGNORE).all()
        total = total + F.cross_entropy(logits, targets[:n], label_smoothing=smoothing, reduction="sum")
        frames += n
    return total / frames


@pytest.mark.parametrize("name", MODELS)
def test_label_smoothing_is_over_real_frames(name, tmp_path):
    one = ("trainer.limit_train_batches=1", "loss.label_smoothing=0.2")
    train_in(tmp_path, *EXACT, f"model={name}", *one, "model.norm=none", WITNESS, tiny=False)
    logged = next(float(row["train/loss_step"]) for row in metrics(tmp_path) if "train/loss_step" in row)
    with torch.no_grad():
        by_hand = loss_by_hand(Witness.model, Witness.batches[0], 0.2)
        without = loss_by_hand(Witness.model, Witness.batches[0])
    assert logged == pytest.approx(float(by_hand), rel=1e-5) and abs(logged - float(without)) > 1e-4


@pytest.mark.parametrize("name", MODELS)
def test_two_accumulated_batches_are_one_update_by_the_mean_of_their_gradients(name, tmp_path):
    """An epoch's last batch, left alone, counts as half of an update: Lightning divides by the same number."""
    three = ("trainer.limit_train_batches=3", "trainer.accumulate_grad_batches=2")
    train_in(tmp_path, *EXACT, f"model={name}", *three, "model.norm=none", WITNESS, tiny=False)
    before, after_one, after_two, after_three = Witness.weights
    assert all(torch.equal(before[key], after_one[key]) for key in before)
    updates = ((before, Witness.batches[:2], after_two), (after_two, Witness.batches[2:], after_three))
    for start, batches, end in updates:
        Witness.model.load_state_dict(start)
        Witness.model.zero_grad()
        for batch in batches:
            (loss_by_hand(Witness.model, batch) / 2).backward()
        for key, parameter in Witness.model.named_parameters():
            torch.testing.assert_close(end[key], start[key] - RATE * parameter.grad, atol=1e-6, rtol=1e-4)
        assert gradient_norms(Witness.model).total > 0.01


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("name", MODELS)
def test_clipping_bounds_the_step(name, precision, tmp_path):
    """Plain descent: a step is the rate times the gradient, which is longer than the limit at the start."""
    few = ("trainer.limit_train_batches=3", f"trainer.precision={precision}", "trainer.gradient_clip_val=0.01")
    train_in(tmp_path, *EXACT, f"model={name}", *few, WITNESS, tiny=False)
    steps = [step_between(a, b) for a, b in zip(Witness.weights, Witness.weights[1:], strict=False)]
    norms = [float(torch.cat([part.flatten() for part in step.values()]).double().norm()) for step in steps]
    assert norms == pytest.approx([RATE * 0.01] * 3, rel=1e-3)


@pytest.mark.parametrize("name", MODELS)
def test_all_of_it_at_once(name, tmp_path):
    everything = (
        "loss.label_smoothing=0.1",
        "trainer.gradient_clip_val=1",
        "trainer.accumulate_grad_batches=2",
        "trainer.precision=bf16-mixed",
        "augment=specaugment",
        "augment.speed=0.1",
        "augment.noise=0.1",
        "callbacks/averaging=ema",
        "model.dropout_kind=utterance",
        *(() if name == "gru" else ("model.layer_drop=0.2",)),
    )
    train_in(tmp_path, *TINY_SEQUENCE, f"model={name}", *everything, "trainer.max_epochs=4", tiny=False)
    losses = [float(row["val/loss"]) for row in metrics(tmp_path) if row.get("val/loss")]
    assert len(losses) == 4 and losses[-1] < losses[0] - 0.1
    assert (tmp_path / "prediction.csv").exists()
