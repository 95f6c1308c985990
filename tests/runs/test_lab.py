"""phoneme-lab: files, verdicts, what is kept, and what is refused."""

import json
from html.parser import HTMLParser

import pytest

from phoneme.config import CONF
from phoneme.errors import InputError
from phoneme.lab.experiments import NAMES
from phoneme.lab.lecture import ROWS
from phoneme.runs import lab as runs_lab
from phoneme.runs.lab import run_lab
from tests.folders import timit11_folder
from tests.helpers import command, composed, train_in

FEW = ("bad_training_set", "likelihood")  # seconds each


@pytest.fixture
def few(monkeypatch):
    """A laboratory of two experiments, in this process."""
    monkeypatch.setattr(runs_lab, "NAMES", FEW)
    return ("lab=all", "lab.jobs=1", "lab.seeds=3", "device=cpu")


def lab_in(folder, *overrides):
    return run_lab(**composed("lab", folder, *overrides), folder=folder)


class Page(HTMLParser):
    """Cells of the table of verdicts, images, and what is loaded from elsewhere."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.images, self.links, self.ids = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids += [found["id"]] if "id" in found else []
        if tag == "th":
            self.rows.append("")
        if tag == "img":
            self.images.append(found["src"])
        if tag == "a":
            self.links.append(found["href"])
        self.inside = tag

    def handle_data(self, data):
        if getattr(self, "inside", "") == "th" and self.rows and not self.rows[-1]:
            self.rows[-1] = data.strip()


def test_one_experiment_leaves_its_files(tmp_path):
    answers = lab_in(tmp_path, "lab=likelihood", "lab.seeds=3", "device=cpu")
    content = json.loads((tmp_path / "lab.json").read_text())
    assert content == answers["likelihood"] and content["rows"]["F2"]["verdict"] == "holds"
    rule = content["rows"]["F2"]["rulings"][0]
    assert rule["above"] is None and rule["below"] > 0 and len(rule["values"]) == 3
    assert content["conditions"]["seeds"] == [0, 1, 2] and content["conditions"]["model"]["width"] == 64
    assert content["conditions"]["data"]["root"] == "${bundled_sample:}"  # no path of this machine
    for name in ("README.md", "index.html", "figures/trainings.png", "figures/trainings.svg"):
        assert (tmp_path / name).stat().st_size > 500, name
    assert "figures/trainings.png" in (tmp_path / "README.md").read_text()


def test_all_of_them_make_a_page_with_every_row(few, tmp_path):
    gallery = tmp_path / "docs" / "lab.md"
    answers = lab_in(tmp_path / "run", *few, f"lab.gallery={gallery}")
    assert tuple(answers) == FEW
    page = Page((tmp_path / "run" / "index.html").read_text())
    assert page.rows[: len(ROWS)] == list(ROWS)
    assert len(page.images) == 2 and all(src.startswith("data:image/png;base64,") for src in page.images)
    assert {link.removeprefix("#") for link in page.links} == set(FEW) <= set(page.ids)
    text = gallery.read_text()
    assert "](../run/likelihood/figures/trainings.png)" in text and "| G5 |" in text and "– not run" in text


def test_what_is_there_is_kept_and_what_is_missing_is_run(few, tmp_path, monkeypatch):
    first = lab_in(tmp_path, *few)
    (tmp_path / "likelihood" / "lab.json").write_text("{ half")
    performed = []
    monkeypatch.setattr(
        runs_lab, "perform", lambda e, b, perform=runs_lab.perform: performed.append(e) or perform(e, b)
    )
    again = lab_in(tmp_path, *few)
    assert [e.name for e in performed] == ["likelihood"]
    assert (
        again["bad_training_set"] == first["bad_training_set"]
        and again["likelihood"]["rows"] == first["likelihood"]["rows"]
    )
    lab_in(tmp_path, *few, "lab.seeds=4")  # another question
    assert [e.name for e in performed[1:]] == list(FEW)


def test_one_that_fails_does_not_end_the_others(few, tmp_path, monkeypatch):
    def fail(experiment, bench, perform=runs_lab.perform):
        if experiment.name == FEW[0]:
            raise RuntimeError("no luck")
        return perform(experiment, bench)

    monkeypatch.setattr(runs_lab, "perform", fail)
    with pytest.raises(RuntimeError, match="no luck"):
        lab_in(tmp_path, *few)
    assert not (tmp_path / FEW[0] / "lab.json").exists() and (tmp_path / FEW[1] / "lab.json").is_file()
    assert (tmp_path / "index.html").is_file()


def test_an_interrupted_run_says_how_it_goes_on(few, tmp_path, monkeypatch, caplog):
    def interrupt(experiment, bench, perform=runs_lab.perform):
        if experiment.name == FEW[1]:
            raise KeyboardInterrupt
        return perform(experiment, bench)

    monkeypatch.setattr(runs_lab, "perform", interrupt)
    with caplog.at_level("INFO"), pytest.raises(KeyboardInterrupt):
        lab_in(tmp_path, *few)
    assert f"1 of 2 experiments are done; the same command with hydra.run.dir={tmp_path} goes on" in caplog.text
    monkeypatch.undo()
    monkeypatch.setattr(runs_lab, "NAMES", FEW)
    with caplog.at_level("INFO"):
        assert len(lab_in(tmp_path, *few)) == 2
    assert "kept from before, drawn anew: bad_training_set" in caplog.text


def test_processes_beside_each_other_give_the_same_answers(few, tmp_path):
    one, other = lab_in(tmp_path / "1", *few), lab_in(tmp_path / "2", *few, "lab.jobs=2")
    for name in FEW:
        assert one[name]["rows"] == other[name]["rows"] and one[name]["numbers"] == other[name]["numbers"]


def test_two_seeds_decide_nothing(tmp_path):
    rows = lab_in(tmp_path, "lab=bad_training_set", "lab.seeds=2", "device=cpu")["bad_training_set"]["rows"]
    assert rows["A6"]["verdict"] == "undecided"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("lab.budget=huge",), "expected quick or full, got huge"),
        (("lab.seeds=0",), "expected at least 1, got 0\n  where: lab.seeds"),
        (("lab.jobs=-1",), "where: lab.jobs"),
        (("lab.seed=-1",), "where: seed"),
        (("lab.name=likelyhood",), "did you mean likelihood?"),
        (("ckpt_path=last.ckpt",), "expected an experiment that takes a network of yours, got likelihood"),
        (("model=lstm",), "expected a model of single frames, got Recurrent"),
    ],
)
def test_bad_input_gets_one_message(overrides, message, tmp_path):
    with pytest.raises(InputError) as caught:
        lab_in(tmp_path, "lab=likelihood", *overrides)
    assert message in str(caught.value)
    assert not (tmp_path / "lab.json").exists()


def test_an_unknown_experiment_lists_the_known(tmp_path):
    done = command("lab", "lab=batchnorm", cwd=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "expected a choice of lab, got batchnorm" in done.stderr and all(name in done.stderr for name in FEW)


def test_every_experiment_is_a_choice():
    assert {path.stem for path in (CONF / "lab").glob("*.yaml")} == {"all", "common", *NAMES}
    for name in NAMES:
        assert f"name: {name}\n" in (CONF / "lab" / f"{name}.yaml").read_text()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    train_in(folder, "trainer.max_epochs=1", "model.norm=none", "model.activation=tanh")
    return folder / "checkpoints" / "last.ckpt"


@pytest.mark.parametrize("name", ["gradient_noise", "critical_points"])
def test_on_a_network_of_ones_own(name, checkpoint, tmp_path):
    answer = lab_in(tmp_path, f"lab={name}", f"ckpt_path={checkpoint}", "lab.seeds=3", "device=cpu")[name]
    assert answer["checkpoint"] == "last.ckpt"
    values = [v for row in answer["rows"].values() for r in row["rulings"] for v in r["values"]]
    assert values and sum(v is not None for v in values) > len(values) / 2


def test_all_with_a_checkpoint_are_those_that_take_one(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(runs_lab, "NAMES", ("likelihood", "gradient_noise"))
    assert list(lab_in(tmp_path, f"ckpt_path={checkpoint}", "lab.seeds=3", "device=cpu")) == ["gradient_noise"]


def test_a_checkpoint_of_another_task_is_refused(checkpoint, tmp_path):
    other = timit11_folder(tmp_path / "timit", n_train=20)
    with pytest.raises(InputError, match=r"the 41 classes of the checkpoint[\s\S]*got 39"):
        lab_in(
            tmp_path / "run",
            "lab=gradient_noise",
            f"ckpt_path={checkpoint}",
            "data=timit11",
            f"data.root={other}",
            "device=cpu",
        )


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    (tmp_path / "notes.ckpt").write_text("nothing")
    with pytest.raises(InputError, match="expected a checkpoint of tensors and primitives"):
        lab_in(tmp_path, "lab=gradient_noise", f"ckpt_path={tmp_path / 'notes.ckpt'}", "device=cpu")


@pytest.mark.parametrize("name", ["batch_norm", "small_batches_norm"])
def test_a_model_without_batchnorm_is_refused_where_it_is_needed(name, tmp_path):
    with pytest.raises(InputError, match=r"expected a model with the settings [\w, ]*norm"):
        lab_in(tmp_path, f"lab={name}", "model=linear", "lab.seeds=1", "device=cpu")
