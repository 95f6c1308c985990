"""The pages of the lab: one for an experiment, one for the lecture, and the same in Markdown."""

import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from phoneme.lab.lecture import CHAPTERS, ROWS
from phoneme.lab.rules import CONFIDENCE, FAILS, HOLDS, PARTLY, UNDECIDED
from phoneme.report.markup import document, heading, image, number, paragraph
from phoneme.wording import digits, interval

Answer = Mapping[str, Any]  # the content of a lab.json
MARKS = {HOLDS: "●", PARTLY: "◐", FAILS: "○", UNDECIDED: "?"}
NOT_RUN = "not run"
TITLE = "What to do if my network fails to train: the lecture, re-run"
ABOUT = (
    f"Each claim of the lecture is an experiment. Rules fixed beforehand decide: the {CONFIDENCE:.0%} interval of the "
    "mean over the seeds has to lie where the rule says. A claim with several rules holds partly if some hold and some "
    "do not. With this many rules, one or two may come out wrong by chance."
)
READING = (
    "In the figures a line or a bar is the mean over the seeds, a band reaches from the least to the greatest, a dot "
    "is one seed. On a surface a hollow mark is the start of a path, a filled one its end."
)
STYLE = """<style>
.verdicts tr { display: grid; grid-template-columns: 2.4rem 1fr; }
.verdicts td:nth-child(2), .verdicts td:nth-child(3) { grid-column: 2; }
.verdicts td { font-size: .95rem; }
h3 { margin: 1.6rem 0 .3rem; font-size: 1.05rem; }
section { border-top: 1px solid GrayText; margin-top: 2.5rem; }
</style>"""


def summary_lines(answer: Answer) -> list[str]:
    """What a terminal shows of an experiment: a line a row, and one a rule."""
    lines = [f"{answer['title']} ({answer['cost']['seconds']:.0f} s)"]
    for row, found in answer["rows"].items():
        lines.append(f"  {row} {found['verdict']}")
        lines += [f"    {_ruling(ruling)}" for ruling in found["rulings"]]
    return lines


def experiment_page(answer: Answer, figures: Sequence[Path]) -> str:
    """One self-contained HTML page of an experiment; `figures` are its PNG files."""
    return document(
        answer["title"], [STYLE, f"<h1>{escape(answer['title'])}</h1>", *_body(answer, figures), paragraph(READING)]
    )


def lecture_page(answers: Mapping[str, Answer], figures: Mapping[str, Sequence[Path]]) -> str:
    """One self-contained HTML page: a verdict for each row of the lecture, then every experiment.

    `answers` and `figures` are by the name of the experiment. A row that no experiment was run for says so.
    """
    parts = [STYLE, f"<h1>{escape(TITLE)}</h1>", paragraph(ABOUT), paragraph(READING), paragraph(_count(answers))]
    for chapter, title in CHAPTERS.items():
        parts.append(heading(f"{chapter}. {title}"))
        parts.append(_verdicts([row for row in ROWS if row[0] == chapter], answers))
    for name, answer in answers.items():
        parts.append(f'<section id="{escape(name)}">{heading(answer["title"])}')
        parts += [*_body(answer, figures[name]), "</section>"]
    parts += [heading("Conditions"), *map(paragraph, _conditions(next(iter(answers.values()), None)))]
    return document(TITLE, parts)


def _count(answers: Mapping[str, Answer]) -> str:
    verdicts = [_found(row, answers)[1] for row in ROWS]
    kinds = [(kind, verdicts.count(kind)) for kind in (*MARKS, NOT_RUN)]
    parts = [f"{count} {kind if count == 1 else kind.replace('holds', 'hold')}" for kind, count in kinds if count]
    return f"Of {len(ROWS)} rows: " + ", ".join(parts) + "."


def _found(row: str, answers: Mapping[str, Answer]) -> tuple[str | None, str]:
    """The experiment that carries a row, and the row's verdict."""
    for name, answer in answers.items():
        if row in answer["rows"]:
            return name, answer["rows"][row]["verdict"]
    return None, NOT_RUN


def _verdicts(rows: Sequence[str], answers: Mapping[str, Answer]) -> str:
    cells = []
    for row in rows:
        name, verdict = _found(row, answers)
        word = f"{MARKS.get(verdict, '–')} {verdict}"
        link = f'<a href="#{escape(name)}">{escape(word)}</a>' if name else escape(word)
        cells.append(f'<tr><th scope="row">{row}</th><td>{escape(ROWS[row])}</td><td>{link}</td></tr>')
    return f'<table class="verdicts"><tbody>{"".join(cells)}</tbody></table>'


def _body(answer: Answer, figures: Sequence[Path]) -> list[str]:
    messages = {picture["name"]: picture["message"] for picture in answer["pictures"]}
    parts = []
    for row, found in answer["rows"].items():
        parts.append(f"<h3>{row}: {escape(MARKS[found['verdict']] + ' ' + found['verdict'])}</h3>")
        parts.append(paragraph(found["says"], "why"))
        parts.append(paragraph(f"It would be refuted by: {_lowered(found['refuted_by'])}"))
        parts.append("<ul>" + "".join(f"<li>{escape(_ruling(r))}</li>" for r in found["rulings"]) + "</ul>")
    parts += [image(path, messages.get(path.stem, path.stem)) for path in figures]
    return [*parts, paragraph(_run(answer))]


def _ruling(ruling: Mapping[str, Any]) -> str:
    """What was measured, what was asked, what follows.

    >>> _ruling({"says": "accuracy gained", "mean": 0.05, "low": 0.04, "high": 0.06, "above": 0.01, "below": None,
    ...          "verdict": "holds", "values": [0.05, 0.04, 0.06]})
    '● accuracy gained: 0.05 [0.04, 0.06], required: more than 0.01: holds'
    """
    bounds = (ruling["above"], ruling["below"])
    asked = {
        (True, False): "more than {0}",
        (False, True): "less than {1}",
        (True, True): "between {0} and {1}",
    }[tuple(bound is not None for bound in bounds)].format(*(b if b is None else digits(b, 5) for b in bounds))
    seen = "not a number" if ruling["mean"] is None else digits(ruling["mean"], 3 if ruling["low"] is not None else 4)
    if ruling["low"] is not None:
        seen += f" {interval(ruling['low'], ruling['high'])}"
    elif len(ruling["values"]) > 1 and None not in ruling["values"]:
        seen += f" ({digits(min(ruling['values']))} to {digits(max(ruling['values']))})"
    return f"{MARKS[ruling['verdict']]} {ruling['says']}: {seen}, required: {asked}: {ruling['verdict']}"


def _lowered(sentence: str) -> str:
    return sentence[0].lower() + sentence[1:]


def _run(answer: Answer) -> str:
    own = f", the network {answer['checkpoint']}" if answer["checkpoint"] else ""
    cost = answer["cost"]
    return (
        f"{_seeds(answer['seeds'])}, budget {answer['budget']}{own}; {number(cost['seconds'])} s, "
        f"{number(cost['cpu_seconds'])} CPU-seconds. All numbers: lab.json."
    )


def _seeds(seeds: Sequence[int]) -> str:
    """
    >>> _seeds([100, 101, 102]), _seeds([0])
    ('seeds 100 to 102', 'seed 0')
    """
    return f"seeds {seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"seed {seeds[0]}"


def _conditions(answer: Answer | None) -> list[str]:
    if answer is None:
        return []
    asked = answer["conditions"]
    data, network = asked["data"], {key: value for key, value in asked["model"].items() if value is not None}
    return [
        f"Speech: {data['name']}, split by {data['split']['by']}; features {asked['features']['name']}.",
        "Network, where an experiment does not change it: " + ", ".join(f"{k} {v}" for k, v in network.items()) + ".",
        f"On {asked['device']}, {asked['threads']} thread a process. "
        + ", ".join(f"{name} {version}" for name, version in asked["versions"].items())
        + ".",
    ]


def experiment_readme(answer: Answer, figures: str = "figures") -> str:
    """The page of one experiment in Markdown; `figures` is their folder, seen from the file."""
    lines = [f"# {answer['title']}", ""]
    lines += [*_markdown(answer, figures), READING]
    return "\n".join(lines) + "\n"


def gallery(answers: Mapping[str, Answer], figures: Mapping[str, Sequence[Path]], folder: Path) -> str:
    """The page of the lecture in Markdown, for a file in `folder`."""
    lines = [f"# {TITLE}", "", ABOUT, "", READING, "", _count(answers), ""]
    for chapter, title in CHAPTERS.items():
        lines += [f"**{chapter}. {title}**", "", "| | claim | verdict |", "|---|---|---|"]
        for row in (row for row in ROWS if row[0] == chapter):
            name, verdict = _found(row, answers)
            word = f"{MARKS.get(verdict, '–')} {verdict}"
            lines.append(
                f"| {row} | {ROWS[row].replace('|', chr(92) + '|')} | {f'[{word}](#{name})' if name else word} |"
            )
        lines.append("")
    for name, answer in answers.items():
        place = figures[name][0].parent if figures[name] else folder
        lines += [f'<a id="{name}"></a>', "", f"## {answer['title']}", ""]
        lines += _markdown(answer, Path(os.path.relpath(place, folder)).as_posix())
    lines += ["## Conditions", "", *_conditions(next(iter(answers.values()), None))]
    return "\n".join(lines) + "\n"


def _markdown(answer: Answer, figures: str) -> list[str]:
    lines = [f"`phoneme-lab lab={answer['experiment']}`", ""]
    for row, found in answer["rows"].items():
        lines += [f"**{row}: {found['verdict']}.** {found['says']}", ""]
        lines += [f"*Refuted by:* {_lowered(found['refuted_by'])}", ""]
        lines += [*(f"- {_ruling(ruling)}" for ruling in found["rulings"]), ""]
    for picture in answer["pictures"]:
        lines += [f"![{picture['message']}]({figures}/{picture['name']}.png)", ""]
    return [*lines, _run(answer), ""]
