"""A trained model over many frames: how good it is, and what it says. No trainer, one process, evaluation mode."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn
from tqdm import tqdm

from phoneme.batches import FrameBatches, UtteranceBatches
from phoneme.datamodule import PhonemeData, fits
from phoneme.metrics import FrameMetrics, MeanLoss
from phoneme.store import FrameStore
from phoneme.windows import gather_utterances, gather_windows


@dataclass(frozen=True)
class Evaluation:
    """Metrics by name, `loss` among them; the confusion matrix, rows the truth; the recall of each class."""

    metrics: dict[str, float]
    confusion: Int64[Tensor, "classes classes"]
    recall: Float[Tensor, "classes"]


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    data: PhonemeData,
    ids: tuple[str, ...],
    device: torch.device,
) -> Evaluation:
    """Loss and metrics of `model` over every frame of the utterances `ids`."""
    model.eval().to(device)
    phones = data.store.phones
    frame_metrics = FrameMetrics(len(phones), phones.silence, sync_on_compute=False).to(device)
    mean_loss = MeanLoss(sync_on_compute=False).to(device)
    for indices in tqdm(
        data.batches(ids, data.eval_batch_size), desc="evaluating", unit="batch", leave=False, disable=None
    ):
        batch = type(gathered := data.gather(indices))(*(part.to(device) for part in gathered))
        logits = model(*batch.arguments)
        mean_loss.update(loss(logits, batch.targets), batch.targets)
        frame_metrics.update(logits.reshape(-1, len(phones)), batch.targets.flatten(), batch.boundary.flatten())
    metrics = {"loss": mean_loss.compute()} | frame_metrics.compute()
    values = {name: float(value) for name, value in metrics.items()}
    return Evaluation(values, frame_metrics.confusion.cpu(), frame_metrics.recall.cpu())


@torch.inference_mode()
def predict(
    model: nn.Module, store: FrameStore, device: torch.device, batch_size: int = 2048
) -> UInt8[Tensor, "frame"]:
    """The most probable class of every frame of `store`, in its order."""
    model.eval().to(device)
    if fits(store, device):
        store = store.to(device)
    answers = torch.empty(store.n_frames, dtype=torch.uint8)
    if model.unit == "frame":
        for index in _progress(FrameBatches(torch.arange(store.n_frames), batch_size)):
            windows = gather_windows(store.frames, store.offsets, index.to(store.frames.device), model.context)
            answers[index] = model(windows.to(device)).argmax(-1).to("cpu", torch.uint8)
        return answers
    lengths = store.offsets.diff().cpu()
    for rows in _progress(UtteranceBatches(torch.arange(len(store)), lengths, batch_frames=batch_size)):
        longest = int(lengths[rows].max())
        features, index, n, mask = gather_utterances(store.frames, store.offsets, rows.to(store.frames.device), longest)
        classes = model(features.to(device), n.to(device)).argmax(-1).to("cpu", torch.uint8)
        answers[index[mask].cpu()] = classes[mask.cpu()]
    return answers


def _progress(batches: FrameBatches | UtteranceBatches) -> tqdm:
    return tqdm(batches, desc="predicting", unit="batch", leave=False, disable=None)
