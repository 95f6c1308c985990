"""The most probable path through phones of a minimum duration, exactly, for many utterances at once (Viterbi 1967)."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from phoneme.batches import UtteranceBatches

BATCH_FRAMES = 100_000  # with the padding: 36 MB of scores and choices at 41 classes


@dataclass(frozen=True, eq=False)
class Chain:
    """Scores of phone sequences, in nats. A phone is a row of `minimum` states, walked from left to right.

    A path begins in the first state of a phone (`first`), takes each of its states for one frame, may repeat the last
    (`stay`) and goes from there to the first state of another phone (`move`, from the row's to the column's; its
    diagonal is -inf). It may end in any state: the utterance was cut there.
    """

    first: Float[Tensor, "classes"]
    stay: Float[Tensor, "classes"]
    move: Float[Tensor, "classes classes"]
    minimum: int

    def to(self, device: torch.device) -> "Chain":
        """In float32 on a device."""
        first, stay, move = (part.to(device, torch.float32) for part in (self.first, self.stay, self.move))
        return Chain(first, stay, move, self.minimum)


def viterbi(
    scores: Float[Tensor, "frame classes"], offsets: Int64[Tensor, "utterance_plus_1"], chain: Chain
) -> UInt8[Tensor, "frame"]:
    """The classes along the path with the largest sum of `scores` (finite) and of `chain`, utterance by utterance.

    Exact but for the rounding of float32: the sums are kept near 0, so that a long utterance loses no digits. Per
    batch of utterances of similar length there is one loop over frames; each step is a few operations on
    [utterance, class, class]. Cost: frames x classes², on the device of `scores`.
    """
    chain, lengths = chain.to(scores.device), offsets.diff().cpu()
    answer = torch.empty(len(scores), dtype=torch.uint8, device=scores.device)
    rows = lengths.nonzero().flatten()
    if not len(rows):
        return answer
    starts = offsets.to(scores.device)
    for batch in UtteranceBatches(rows, lengths[rows], BATCH_FRAMES):
        longest_first = batch.flip(0)
        here = lengths[longest_first]
        step = torch.arange(int(here[0]), device=scores.device)
        mask = step[:, None] < here.to(scores.device)  # [time, utterance]
        index = (starts[longest_first.to(scores.device)] + step[:, None]).clamp_max(len(scores) - 1)
        # how many utterances last longer than t frames: the first ones, as they are sorted
        alive = (len(here) - torch.searchsorted(here.flip(0), torch.arange(int(here[0])), right=True)).tolist()
        path = _walk_back(*_walk(scores[index].float(), alive, chain), alive, chain)
        answer[index[mask]] = path[mask]
    return answer


def _walk(
    scores: Float[Tensor, "time utterance classes"], alive: list[int], chain: Chain
) -> tuple[Float[Tensor, "time utterance classes"], Bool[Tensor, "time utterance classes"], Int64[Tensor, "utterance"]]:
    """From left to right: the best sum that ends in each state.

    Returns what the way back needs: the sums in the last states, up to a number for each frame and utterance; where the
    last state was repeated; and the best state of each utterance's last frame, as `state * classes + class`.
    """
    _, utterances, classes = scores.shape
    last_sums, stayed = torch.empty_like(scores), torch.zeros_like(scores, dtype=torch.bool)
    ends = torch.empty(utterances, dtype=torch.int64, device=scores.device)
    arrivals = chain.move.T.contiguous()  # [to, from]
    best = scores.new_full((chain.minimum, utterances, classes), -torch.inf)
    best[0] = scores[0] + chain.first
    last_sums[0] = best[-1]
    for t in range(1, len(scores)):
        if alive[t] < alive[t - 1]:
            ends[alive[t] : alive[t - 1]] = _best_state(best[:, alive[t] :])
            best = best[:, : alive[t]]
        last = best[-1]
        enter = (last[:, None, :] + arrivals).amax(dim=2)  # [utterance, to, from] -> [utterance, to]
        best = torch.cat([enter[None], best[:-1]])
        stay = last + chain.stay
        torch.gt(stay, best[-1], out=stayed[t, : alive[t]])
        torch.maximum(stay, best[-1], out=best[-1])
        best += scores[t, : alive[t]]
        best -= best.amax(dim=(0, 2), keepdim=True)
        last_sums[t, : alive[t]] = best[-1]
    ends[: alive[-1]] = _best_state(best)
    return last_sums, stayed, ends


def _best_state(best: Float[Tensor, "state utterance classes"]) -> Int64[Tensor, "utterance"]:
    """The number `state * classes + class` of the largest sum of each utterance."""
    return best.transpose(0, 1).flatten(1).argmax(dim=1)


def _walk_back(
    last_sums: Float[Tensor, "time utterance classes"],
    stayed: Bool[Tensor, "time utterance classes"],
    ends: Int64[Tensor, "utterance"],
    alive: list[int],
    chain: Chain,
) -> UInt8[Tensor, "time utterance"]:
    """From right to left: the classes of the path that ends in `ends`.

    Where a phone was entered is known from its states; from which one is found again by the maximum that was taken on
    the way there, for the one class that matters.
    """
    steps, _, classes = last_sums.shape
    path = torch.zeros(last_sums.shape[:2], dtype=torch.uint8, device=ends.device)
    phone, state = ends % classes, ends // classes
    arrivals, top = chain.move.T.contiguous(), chain.minimum - 1
    for t in range(steps - 1, 0, -1):
        n = alive[t]
        path[t, :n] = phone[:n]
        here, place = phone[:n], state[:n]
        repeats = stayed[t, :n].gather(1, here[:, None])[:, 0] & (place == top)
        enters = (place == 0) & ~repeats
        source = (last_sums[t - 1, :n] + arrivals[here]).argmax(dim=1)
        phone[:n] = torch.where(enters, source, here)
        state[:n] = torch.where(enters, top, place - (~repeats).long())
    path[0] = phone
    return path
