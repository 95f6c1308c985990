"""The hybrid of a network and an HMM: the network scores frames, the chain knows durations and successions."""

from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from phoneme.decode.chain import Chain, viterbi
from phoneme.decode.posteriors import FLOOR, check_log_posteriors
from phoneme.decode.statistics import PhoneStatistics
from phoneme.errors import InputError


def hmm_decoding(
    log_posteriors: Float[Tensor, "frame classes"],
    offsets: Int64[Tensor, "utterance_plus_1"],
    statistics: PhoneStatistics,
    *,
    prior_weight: float,
    transition_weight: float,
    minimum_frames: int,
) -> UInt8[Tensor, "frame"]:
    """The classes c₁ … c_T that maximise Σ_t [log p(c_t|x) - α log P(c_t)] + β log P(c₁ … c_T).

    α is `prior_weight`: by Bayes p(c|x) / P(c) is p(x|c) but for a factor of the frame, the scaled likelihood of
    Bourlard & Morgan (1994, chapter 7), at α = 1; the network's scores are no exact posteriors, so less may be better.
    β is `transition_weight`: neighbouring frames repeat each other's evidence, for which β > 1 makes up. P(c₁ … c_T)
    is the chain of `PhoneStatistics` in which a phone lasts `minimum_frames` or longer (the last may be cut).
    α = β = 0 with a minimum of 1 is argmax. Log-posteriors are cut at `FLOOR`.

    Raises InputError for a negative weight, a minimum below 1, statistics of other classes, and as
    `check_log_posteriors`.
    """
    _check(prior_weight, transition_weight, minimum_frames)
    check_log_posteriors(log_posteriors, offsets)
    classes = log_posteriors.shape[1]
    if len(statistics.frames) != classes:
        raise InputError(
            expected=f"statistics of {classes} classes, as the posteriors have",
            got=len(statistics.frames),
            where="the training labels",
            hint="estimate them from the labels the network was trained on",
        )
    scores = log_posteriors.float().clamp_min(FLOOR)
    if prior_weight:
        scores = scores - prior_weight * statistics.log_prior.to(scores)
    move = statistics.log_move(minimum_frames)
    chain = Chain(
        first=transition_weight * statistics.log_first,
        stay=transition_weight * statistics.log_stay(minimum_frames),
        move=(transition_weight * move).nan_to_num(nan=-float("inf"), neginf=-float("inf")),  # 0 · -inf is no way
        minimum=minimum_frames,
    )
    return viterbi(scores, offsets, chain)


def _check(prior_weight: float, transition_weight: float, minimum_frames: int) -> None:
    for name, value in (("prior_weight", prior_weight), ("transition_weight", transition_weight)):
        if not 0 <= value < float("inf"):
            raise InputError(
                expected="a weight of 0 or more", got=value, where=f"decode.{name}", hint="0 switches the part off"
            )
    if minimum_frames < 1:
        raise InputError(
            expected="at least 1 frame",
            got=minimum_frames,
            where="decode.minimum_frames",
            hint="3 frames are 30 ms; most phones are longer",
        )
