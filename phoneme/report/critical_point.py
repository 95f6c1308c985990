"""The page of `phoneme-diagnose`: where the network is on the error surface, for a student."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from phoneme.files import write_text
from phoneme.report.markup import bullets, document, heading, image, number, paragraph
from phoneme.report.sections import (
    bouncing_section,
    certainty,
    conditions,
    escape_section,
    homework_section,
    kinks_section,
    noise_section,
    numbers,
    sharpness_section,
)
from phoneme.report.verdicts import MEANINGS
from phoneme.wording import percent, with_bound

TITLE = "Where is this network on the error surface?"
CAPTIONS = {  # by the name of the file
    "extremes": "The largest curvatures and the smallest. Left of zero the loss bends down. Whiskers show how far each "
    "end can be from the point drawn.",
    "density": "How the curvatures of all directions are spread. The vertical axis is logarithmic: the peak at zero is "
    "far higher than it looks. Bells have a width because the picture is blurred, eigenvalues have none.",
    "minimum_ratio": "How many directions bend up, are flat, and bend down. A bar is an interval that contains the "
    "truth, not a spread.",
    "taylor": "The loss along the directions of smallest and largest curvature. Inside the shaded radius the dashed "
    "parabola, all that gradient and curvature know, is off by at most 20 % of its slope and bend terms together.",
}


def page(answer: dict[str, Any], figures: Sequence[Path] = (), *, title: str = TITLE, about: str = "") -> str:
    """One HTML file that needs no other: the verdict in words, what to try, all numbers, the figures inside.

    `answer` is critical_point.json, `figures` are PNG files (one named as in CAPTIONS gets its caption), `about` says
    which network this is. Every text is escaped. Raises FileNotFoundError for a figure that is not there.
    """
    meaning = MEANINGS[answer["verdict"]]
    return document(
        title,
        [
            f"<h1>{escape(title)}</h1>",
            paragraph(about) if about else "",
            heading(meaning.headline),
            paragraph(f"Why: {answer['why'].rstrip('.')}.", "why"),
            heading("What that means"),
            paragraph(meaning.is_),
            paragraph(meaning.is_not),
            paragraph(certainty(answer)) if certainty(answer) else "",
            heading("What to try next"),
            bullets(meaning.next_steps),
            numbers(answer),
            *(image(path, CAPTIONS.get(path.stem, path.stem)) for path in figures),
            sharpness_section(answer["sharpness"], bool(answer.get("rate_is_initial"))),
            bouncing_section(answer["bouncing"]),
            noise_section(answer.get("noise_scale"), answer.get("batch_size")),
            escape_section(answer),
            kinks_section(answer["kinks"]),
            homework_section(answer["homework_2_2"]),
            conditions(answer),
        ],
    )


def write_page(
    path: Path, answer: dict[str, Any], figures: Sequence[Path] = (), *, title: str = TITLE, about: str = ""
) -> Path:
    """Write `page` under `path`, whole or not at all; the folder is made."""
    return write_text(path, page(answer, figures, title=title, about=about))


def summary_lines(answer: dict[str, Any]) -> list[str]:
    """Three to six lines for a terminal; ASCII, but for what `why` has."""
    low, high, cost = answer["lambda_min"], answer["lambda_max"], answer["cost"]
    loss, norm, threshold = (number(float(answer[name])) for name in ("loss", "gradient_norm", "gradient_threshold"))
    lines = [
        f"{answer['verdict']}: {answer['why']}",
        f"loss {loss}, gradient norm {norm} (counts as 0 up to {threshold})",
        f"curvature from lambda_min = {with_bound(low)} to lambda_max = {with_bound(high)}",
    ]
    if ratio := answer["minimum_ratio"]:
        shares = ", ".join(f"{name} {percent(ratio[name])}" for name in ("positive", "zero", "negative"))
        lines.append(f"eigenvalues: {shares} (|lambda| up to {number(float(ratio['tolerance']))} is zero)")
    if (step := answer["escape"]) and step["radius"] is not None:
        measured, predicted = (number(-float(step[name])) for name in ("measured", "predicted"))
        radius = number(float(step["radius"]))
        lines.append(f"a step of {radius} along lambda_min changes the loss by {measured}, predicted {predicted}")
    if homework := answer["homework_2_2"]:
        course, exact = homework["course"], homework["exact"]
        index = f"{exact['positive']} +, {exact['negative']} -, {exact['zero']} zero"
        lines.append(f"homework 2-2 says {course['verdict']!r}; the exact index is {index}")
    lines.append(
        f"{number(cost['products'])} Hessian-vector products, {number(float(cost['seconds']))} s, {cost['dtype']} on "
        f"{cost['device']}"
    )
    return [line.replace("−", "-").replace("±", "+-") for line in lines]
