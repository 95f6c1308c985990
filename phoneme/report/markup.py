"""The few elements a page is made of: HTML without scripts, and without anything from elsewhere."""

import base64
from collections.abc import Iterable
from html import escape
from pathlib import Path

from phoneme.wording import digits

SIGNIFICANT = 3
# Canvas and CanvasText are the reader's own colours, light or dark; figures keep their white paper. On a phone a
# table's row wraps and a figure scrolls sideways, so that both stay large enough to read.
STYLE = """
:root { color-scheme: light dark; }
body { margin: 0; background: Canvas; color: CanvasText; font: 1rem/1.55 system-ui, sans-serif; }
main { max-width: 48rem; margin: 0 auto; padding: 1rem 1rem 3rem; }
h1 { font-size: 1.6rem; line-height: 1.25; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .5rem; }
.why { border-left: .25rem solid GrayText; padding-left: .8rem; overflow-wrap: anywhere; }
figure { margin: 1.5rem 0; }
.paper { overflow-x: auto; }
img { display: block; width: 100%; min-width: 34rem; height: auto; background: white; border-radius: .3rem; }
figcaption { font-size: .9rem; }
table, tbody { display: block; }
tr { display: flex; flex-wrap: wrap; column-gap: 1rem; border-top: 1px solid GrayText; padding: .4rem 0; }
th, td { display: block; text-align: left; padding: 0; overflow-wrap: break-word; min-width: 0; }
th { flex: 1 1 9rem; font-weight: 600; }
td:nth-child(2) { flex: 1 1 9rem; }
td:nth-child(3) { flex: 3 1 18rem; }
"""


def number(value: object, significant: int = SIGNIFICANT) -> str:
    """A value in words: floats to three significant digits, whole numbers in full, containers item by item.

    >>> number(-0.0000123456), number(12345), number(None), number({"train": 0.25})
    ('−1.23e-5', '12,345', 'none', 'train 0.25')
    """
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace("-", "−")
    if isinstance(value, float):
        return digits(value, significant)
    if isinstance(value, dict):
        return ", ".join(f"{key} {number(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(number(item) for item in value) or "none"
    return str(value)


def heading(text: str) -> str:
    return f"<h2>{escape(text)}</h2>"


def paragraph(text: str, kind: str = "") -> str:
    """Plain text; `kind` is a class of the style sheet."""
    return f'<p class="{escape(kind)}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def bullets(items: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"


def table(rows: Iterable[tuple[str, str, str]]) -> str:
    """Name, value and what it says, a row each; on a phone one below the other."""
    cells = (
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td><td>{escape(says)}</td></tr>'
        for name, value, says in rows
    )
    return f"<table><tbody>{''.join(cells)}</tbody></table>"


def image(path: Path, caption: str) -> str:
    """A PNG inside the page."""
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return (
        f'<figure><div class="paper"><img alt="{escape(caption)}" src="data:image/png;base64,{data}"></div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def document(title: str, parts: Iterable[str]) -> str:
    """The whole page around its parts, which are HTML already."""
    body = "\n".join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )
