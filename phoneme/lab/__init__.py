"""The lecture, re-run with numbers: one experiment a file, in `experiments/`. A stage a file:

    lecture (its rows) -> rules (a claim, what refutes it, how that is decided) -> experiment (a run and its answer)
    bench (what a run is given): speech, networks, seeds; descent: the loop of all trainings; pictures: figures as data

Numbers and figures as data; they are drawn elsewhere.
"""

from phoneme.lab.bench import Bench, Own
from phoneme.lab.descent import Descent, Score, descend, score
from phoneme.lab.experiment import Experiment, Measured, perform
from phoneme.lab.pictures import Bars, Level, Line, Panel, Path, Picture, Points, Surface
from phoneme.lab.rules import Claim, Rule, Ruling, decide, verdict_of
from phoneme.lab.speech import Frames, Speech

__all__ = [
    "Bars",
    "Bench",
    "Claim",
    "Descent",
    "Experiment",
    "Frames",
    "Level",
    "Line",
    "Measured",
    "Own",
    "Panel",
    "Path",
    "Picture",
    "Points",
    "Rule",
    "Ruling",
    "Score",
    "Speech",
    "Surface",
    "decide",
    "descend",
    "perform",
    "score",
    "verdict_of",
]
