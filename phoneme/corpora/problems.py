"""All that is wrong with a split in one message, or a count of what is left out."""

import dataclasses

from phoneme.corpora.base import Corpus, Problem
from phoneme.errors import InputError

SHOWN_PROBLEMS = 20


def account(problems: list[list[Problem]]) -> dict:
    """The problems of bad utterances in primitives, for `judge`."""
    return {
        "dropped": len(problems),
        "problems": [dataclasses.asdict(problem) for answer in problems for problem in answer],
    }


def judge(content: dict, corpus: Corpus, split: str, on_bad_utterance: str) -> None:
    """Raise InputError with all that is wrong, unless it may be dropped and something good is left.

    `content` is that of `account` with the `ids` of the good utterances.
    """
    problems = [Problem(**problem) for problem in content["problems"]]
    if not problems or (split == "train" and on_bad_utterance == "drop" and content["ids"]):
        return
    shown = [f"\n    {problem}" for problem in problems[:SHOWN_PROBLEMS]]
    if len(problems) > SHOWN_PROBLEMS:
        shown.append(f"\n    ... and {len(problems) - SHOWN_PROBLEMS} more")
    hints = dict.fromkeys(problem.hint for problem in problems)
    if split == "train":
        hints["to train without the bad ones set data.on_bad_utterance=drop"] = None
    raise InputError(
        expected=f"{len(content['ids']) + content['dropped']} good {split} utterances",
        got=f"{content['dropped']} bad ones:{''.join(shown)}",
        where=corpus.root,
        hint=";\n    ".join(hints),
    )
