"""A trained model over many frames: how good it is, and what it says. No trainer, one process, evaluation mode."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn
from tqdm import tqdm

from phoneme.batches import Batches, IndexBatches, UtteranceBatches
from phoneme.datamodule import PhonemeData, fits, to_device
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
    batches: Batches,
    device: torch.device,
) -> Evaluation:
    """Loss and metrics of `model` over every frame of `batches` of `data`."""
    model.eval().to(device)
    phones = data.store.phones
    frame_metrics = FrameMetrics(len(phones), phones.silence, sync_on_compute=False).to(device)
    mean_loss = MeanLoss(sync_on_compute=False).to(device)
    for indices in tqdm(batches, desc="evaluating", unit="batch", leave=False, disable=None):
        batch = type(gathered := data.gather(indices))(*(part.to(device) for part in gathered))
        logits = model(*batch.arguments)
        mean_loss.update(loss(logits, batch.targets), batch.targets)
        frame_metrics.update(logits.reshape(-1, len(phones)), batch.targets.flatten(), batch.boundary.flatten())
    metrics = {"loss": mean_loss.compute()} | frame_metrics.compute()
    values = {name: float(value) for name, value in metrics.items()}
    return Evaluation(values, frame_metrics.confusion.cpu(), frame_metrics.recall.cpu())


@torch.inference_mode()
def predict(
    model: nn.Module,
    store: FrameStore,
    device: torch.device,
    batch_size: int = 2048,
    batch_utterances: int | None = None,
) -> UInt8[Tensor, "frame"]:
    """The most probable class of every frame of `store`, in its order, in batches as `log_posteriors` has them."""
    answers = torch.empty(store.n_frames, dtype=torch.uint8)
    for index, part in _log_posteriors(model, store, torch.arange(len(store)), device, batch_size, batch_utterances):
        answers[index] = part.argmax(-1).to("cpu", torch.uint8)
    return answers


@torch.inference_mode()
def log_posteriors(
    model: nn.Module,
    store: FrameStore,
    device: torch.device,
    batch_size: int = 2048,
    ids: tuple[str, ...] | None = None,
    batch_utterances: int | None = None,
) -> Float[Tensor, "frame classes"]:
    """The logarithm of each class's probability in every frame of the utterances `ids`, one after the other.

    None: all of `store`, in its order. In float32 on the CPU: 94 MiB for 600,000 frames and 41 classes. A model of
    whole utterances gets those of similar length together, `batch_size` frames with the padding; or, as the data module
    can, `batch_utterances` of any length, on which the answer of an unmasked model depends.
    """
    rows = torch.arange(len(store)) if ids is None else store.rows_of(ids)
    frames = store.frame_indices(rows)
    place = torch.empty(store.n_frames, dtype=torch.int64)  # of a frame in the answer
    place[frames] = torch.arange(len(frames))
    answers = torch.empty(len(frames), len(store.phones))
    for index, part in _log_posteriors(model, store, rows, device, batch_size, batch_utterances):
        answers[place[index]] = part.cpu()
    return answers


@torch.inference_mode()
def _log_posteriors(
    model: nn.Module,
    store: FrameStore,
    rows: Int64[Tensor, "utterance"],
    device: torch.device,
    batch_size: int,
    batch_utterances: int | None,
) -> Iterator[tuple[Int64[Tensor, "n"], Float[Tensor, "n classes"]]]:
    """Frame numbers (on the CPU) and log-posteriors (on `device`, float32), batch by batch; every frame once."""
    model.eval().to(device)
    lengths, wanted = store.offsets.diff().cpu(), store.frame_indices(rows)
    if fits(store, device):
        store = store.to(device)
    home = store.frames.device
    if model.unit == "frame":
        for index in _progress(IndexBatches(wanted, batch_size)):
            windows = gather_windows(store.frames, store.offsets, index.to(home), model.context)
            yield index, model(windows.to(device)).float().log_softmax(-1)
        return
    batches: Batches
    if batch_utterances is None:
        batches = UtteranceBatches(rows, lengths[rows], batch_frames=batch_size)
    else:
        batches = IndexBatches(rows, batch_utterances)
    for batch in _progress(batches):
        features, index, n, mask = gather_utterances(
            store.frames, store.offsets, to_device(batch, home), int(lengths[batch].max())
        )
        logits = model(features.to(device), n.to(device))
        yield index[mask].cpu(), logits[mask.to(device)].float().log_softmax(-1)


def _progress(batches: Batches) -> tqdm:
    return tqdm(batches, desc="predicting", unit="batch", leave=False, disable=None)
