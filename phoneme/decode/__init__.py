"""From the posteriors of many frames to labels: averages over networks, smoothing, an HMM, and what each is worth.

Log-posteriors are `[frame, classes]`, utterance u the rows `offsets[u]` to `offsets[u + 1] - 1`. See docs/decoding.md.
"""

from phoneme.decode.chain import Chain, viterbi
from phoneme.decode.ensemble import EnsembleScore, agreement, check_weights, score_ensemble
from phoneme.decode.gain import Gain, check_utterances, halves, paired_gain, right_frames
from phoneme.decode.hmm import hmm_decoding
from phoneme.decode.pool import check_average, combine, fit_weights
from phoneme.decode.posteriors import argmax, check_log_posteriors
from phoneme.decode.smoothing import median_smoothing
from phoneme.decode.statistics import PhoneStatistics, count_phones
from phoneme.decode.tuning import Tuned, tune

__all__ = [
    "Chain",
    "EnsembleScore",
    "Gain",
    "PhoneStatistics",
    "Tuned",
    "agreement",
    "argmax",
    "check_average",
    "check_log_posteriors",
    "check_utterances",
    "check_weights",
    "combine",
    "count_phones",
    "fit_weights",
    "halves",
    "hmm_decoding",
    "median_smoothing",
    "paired_gain",
    "right_frames",
    "score_ensemble",
    "tune",
    "viterbi",
]
