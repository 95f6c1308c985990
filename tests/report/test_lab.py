"""The pages of the lab say what was found, and nothing else."""

from pathlib import Path

import pytest

from phoneme.lab import Claim, Experiment, Level, Measured, Panel, Picture, Rule, perform
from phoneme.report.lab import experiment_page, experiment_readme, gallery, lecture_page, summary_lines
from tests.lab.helpers import small_bench

PICTURE = Picture("figure", "A <message> & more", [Panel("x", "y", [Level("zero", 0)])])


@pytest.fixture
def answer():
    def measure(bench):
        return Measured({"exact": [2.0], "noisy": [0.2, 0.9, 0.1]}, (PICTURE,))

    experiment = Experiment(
        name="two_weights",
        title="Two weights <1>",
        claims={"B5": Claim("A <claim>", "Something else."), "A6": Claim("Another", "Other numbers.")},
        rules=(
            Rule("B5", "exact", "the eigenvalue", above=1.99, below=2.01, exact=True),
            Rule("A6", "noisy", "a gain", above=0.5),
        ),
        measure=measure,
    )
    conditions = {
        "data": {"name": "sample", "split": {"by": "utterance"}},
        "features": {"name": "course"},
        "model": {"_target_": "Mlp", "width": 64},
        "device": "cpu",
        "threads": 1,
        "versions": {"torch": "2"},
    }
    return perform(experiment, small_bench()) | {"conditions": conditions}


@pytest.fixture
def figure(tmp_path) -> Path:
    path = tmp_path / "two_weights" / "figures" / "figure.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\x89PNG")
    return path


def test_the_terminal_has_a_line_a_row_and_a_rule(answer):
    lines = summary_lines(answer)
    assert lines[1:] == [
        "  B5 holds",
        "    ● the eigenvalue: 2, required: between 1.99 and 2.01: holds",
        "  A6 undecided",
        "    ? a gain: 0.4 [−0.683, 1.48], required: more than 0.5: undecided",
    ]


def test_the_page_of_the_lecture_has_a_verdict_a_row_and_escapes_everything(answer, figure):
    page = lecture_page({"two_weights": answer}, {"two_weights": [figure]})
    assert '<a href="#two_weights">● holds</a>' in page and '<section id="two_weights">' in page
    assert "1 holds, 1 undecided, 28 not run" in page
    assert "A &lt;claim&gt;" in page and "A &lt;message&gt; &amp; more" in page and "<1>" not in page
    assert "http" not in page and "<script" not in page


def test_the_page_of_an_experiment_says_what_would_refute_it(answer, figure):
    page = experiment_page(answer, [figure])
    assert "It would be refuted by: something else." in page and "data:image/png;base64," in page


def test_markdown_finds_its_figures(answer, figure, tmp_path):
    assert "(figures/figure.png)" in experiment_readme(answer)
    text = gallery({"two_weights": answer}, {"two_weights": [figure]}, tmp_path / "docs")
    assert "](../two_weights/figures/figure.png)" in text and "| B5 |" in text and "[● holds](#two_weights)" in text
    assert "≤ \\|H\\|" in text or "\\|H\\|" in text


def test_a_page_without_answers_says_that_nothing_was_run():
    assert "30 not run" in lecture_page({}, {})
