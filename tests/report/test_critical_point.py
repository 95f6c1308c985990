"""The page of a critical point: complete, escaped, closed in itself."""

import base64
import re
from html.parser import HTMLParser

import pytest

from phoneme.plots import plot_critical_point, save
from phoneme.report import page, summary_lines, write_page
from phoneme.report.verdicts import MEANINGS
from tests.plots.answers import answer, extreme

VOID = {"meta", "img", "br"}
HOMEWORK = {
    "course": {"gradient_norm": 4.2e-4, "minimum_ratio": 0.5625, "verdict": "local minima like"},
    "with_tolerance": {"gradient_norm": 4.2e-4, "minimum_ratio": 0.0234, "verdict": "saddle point"},
    "exact": {"positive": 52, "negative": 50, "zero": 283, "minimum_ratio": 0.135},
    "renamed": {"permutations": 1000, "lowest": 0.461, "highest": 0.594, "verdict_flips": 371},
}


class Nesting(HTMLParser):
    """Fails for an end tag that is not the one open; keeps text, images and addresses."""

    def __init__(self, html: str):
        super().__init__()
        self.open, self.text, self.addresses = [], "", []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text += data + "\n"


def read(*args, **options) -> Nesting:
    return Nesting(page(*args, **options))


@pytest.mark.parametrize("verdict", MEANINGS)
def test_each_verdict_is_explained(verdict):
    meaning, seen = MEANINGS[verdict], read(answer(verdict))
    for words in (meaning.headline, meaning.is_, meaning.is_not, *meaning.next_steps):
        assert words in seen.text
    others = [m.headline for name, m in MEANINGS.items() if name != verdict]
    assert not any(words in seen.text for words in others)


def test_the_numbers_are_in_it():
    text = read(answer()).text
    for number in ("2.31", "1.2e-5", "0.00992", "−0.42 ± 0.004", "21.3 ± 0.02", "5 to 8.1 %", "215 ± 12", "34,601"):
        assert number in text
    assert "stable only below a learning rate of 2/λ_max = 0.0939" in text
    assert "along its direction the loss bends down; between −0.428 and −0.412, except with probability 0.001" in text


def test_a_curvature_is_not_given_a_sign_it_has_not():
    flat = answer("degenerate", lambda_min=extreme(-1e-8, 1e-6), flat_tolerance=0.0)
    assert "along its direction the loss is flat, as far as can be told" in read(flat).text


def test_a_saddle_is_proven_by_its_direction():
    assert "the curvature is −0.42, with a rounding error of at most 1e-9" in read(answer()).text


def test_a_minimum_is_certain_only_with_the_whole_spectrum():
    assert "this is not certain" in read(answer("local_minimum", 0.03, 4.2)).text
    exact = answer("local_minimum", 0.03, 4.2, lambda_min=extreme(0.03, 1e-12, failure=0.0, multiplicity=1))
    assert "All eigenvalues were computed" in read(exact).text


def test_the_escape_says_what_it_gained():
    text = read(answer()).text
    assert "The loss falls by 0.0192 along the stored direction; Taylor's model predicts a fall of 0.0189." in text
    assert text.count("on other data") == 1  # the second measurement of the best step is not there
    step = answer()["escape"]
    assert "The loss rises by 0.5" in read(answer(escape=step | {"measured": -0.5})).text
    untrusted = step | {"radius": None, "predicted": None, "measured": None, "second_measured": None}
    assert "cannot be trusted at any step length" in read(answer(escape=untrusted)).text
    nowhere = dict.fromkeys(step, None) | {"sign": 1, "lowered": False}
    assert "nothing was escaped" in read(answer(escape=nowhere)).text
    assert len(summary_lines(answer(escape=nowhere))) == 5


@pytest.mark.parametrize(
    "verdict, reason",
    [("saddle", "tried"), ("not_critical", "the gradient shows"), ("degenerate", "for saddle points")],
)
def test_no_escape_has_a_reason(verdict, reason):
    assert reason in read(answer(verdict, escape=None)).text.split("The way out")[1]


def test_what_is_not_there_is_left_out():
    bare = answer("undecided", minimum_ratio=None, spectral_density=None, trace=None, taylor=[], kinks=None)
    bare["gradient_norm_relative"] = None
    text = read(bare).text
    assert "The minimum ratio is not known" in text
    assert "None" not in text and "nan" not in text
    for words in ("Kinks", "Homework", "Sharpness", "trace", "relative gradient norm"):
        assert words not in text


def test_optional_sections():
    text = read(answer(homework_2_2=HOMEWORK, unused_parameters=["head.bias"])).text
    assert "52 positive, 50 negative, 283 zero" in text and "0.562" in text and "0.461 to 0.594" in text
    assert "371 of them change the course's answer" in text
    assert "add flat directions: head.bias" in text
    assert "1,204 (0.153 %)" in text


@pytest.mark.parametrize(("size", "says"), [(64, "fewer: larger ones"), (512, "more: the noise"), (None, "interval")])
def test_the_noise_scale_is_held_against_the_batch_size(size, says):
    noise = {"value": 300.0, "low": 200.0, "high": None, "confidence": 0.95}
    text = read(answer(noise_scale=noise, batch_size=size)).text
    assert "300 frames (95 % interval from 200 on)" in text and says in text
    assert ("The training's batches" in text) is (size is not None)


@pytest.mark.parametrize("bounces", [True, False])
def test_bouncing_is_said(bounces):
    losses = {"before": 1.25, "after": 1.5, "middle": 0.75, "bouncing": bounces}
    text = read(answer(bouncing=losses)).text
    assert "1.25 before an update, 1.5 after it, and 0.75 half way" in text
    assert ("the updates bounce" in text) is bounces and ("do not bounce" in text) is not bounces


@pytest.mark.parametrize("value, says", [(31.5, "above"), (20.5, "at"), (3.0, "below")])
def test_sharpness_is_held_against_the_threshold(value, says):
    sharpness = {"value": value, "bound": 0.2, "threshold": 20.0, "ratio": value / 20, "optimizer": "SGD", "lr": 0.1}
    text = read(answer(sharpness=sharpness | {"preconditioned": False})).text
    assert f"The sharpness is {says} the threshold" in text and f"{value:g} ± 0.2" in text
    assert "the largest curvature that SGD can stand at a learning rate of 0.1" in text
    assert "as SGD rescales it" in read(answer(sharpness=sharpness | {"preconditioned": True})).text


def test_figures_are_inside_and_nothing_comes_from_elsewhere(tmp_path):
    paths = [save(figure, tmp_path / f"{name}.png") for name, figure in plot_critical_point(answer()).items()]
    html = page(answer(), paths)
    addresses = Nesting(html).addresses
    assert len(addresses) == len(paths) == 4
    for path, address in zip(paths, addresses, strict=True):
        kind, data = address.split(",")
        assert kind == "data:image/png;base64" and base64.b64decode(data) == path.read_bytes()
    assert not re.search(r"https?:|<script|@import|url\(", html)


def test_nasty_text_is_escaped():
    nasty = '<script>alert("1")</script> & </p> v\'Hv'
    html = page(answer(why=nasty, unused_parameters=[nasty], data={nasty: nasty}), title=nasty, about=nasty)
    assert "<script" not in html
    assert Nesting(html).text.count(nasty) >= 6


def test_write_page_leaves_one_file(tmp_path):
    path = write_page(tmp_path / "new" / "index.html", answer(), title="Grüße", about="epoch 3")
    assert [p.name for p in path.parent.iterdir()] == ["index.html"]
    text = path.read_text(encoding="utf-8")
    assert "<title>Grüße</title>" in text and "epoch 3" in text


def test_a_missing_figure_leaves_no_page(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.png"):
        write_page(tmp_path / "index.html", answer(), [tmp_path / "absent.png"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verdict", MEANINGS)
def test_summary_is_a_few_plain_lines(verdict):
    lines = summary_lines(answer(verdict, minimum_ratio=None) if verdict == "undecided" else answer(verdict))
    assert 3 <= len(lines) <= 6
    assert "\n".join(lines).isascii()
    assert lines[0].startswith(f"{verdict}: along")
    assert "curvature from lambda_min = -0.42 +- 0.004 to lambda_max = 21.3 +- 0.02" in lines
    assert any("changes the loss by -0.0192, predicted -0.0189" in line for line in lines) == (verdict == "saddle")
