"""prediction.csv: complete or not at all."""

import pytest
import torch

from phoneme.errors import InputError
from phoneme.submission import write_submission

CLASSES = torch.tensor([3, 0, 40], dtype=torch.uint8)


def sample(folder, text):
    path = folder / "sample_submission.csv"
    path.write_text(text)
    return path


def test_the_format_is_the_courses(tmp_path):
    path = write_submission(
        tmp_path / "run" / "prediction.csv", CLASSES, 3, sample(tmp_path, "Id,Class\n0,0\n1,0\n2,0\n")
    )
    assert path.read_bytes() == b"Id,Class\n0,3\n1,0\n2,40\n"
    assert [p.name for p in path.parent.iterdir()] == ["prediction.csv"]


def test_too_few_rows(tmp_path):
    with pytest.raises(InputError, match=r"expected 4 predictions, one a test frame, got 3"):
        write_submission(tmp_path / "prediction.csv", CLASSES, 4)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text, message",
    [
        ("Id,Class\n0,0\n1,0\n", r"expected 3 rows, one a test frame, got 2 rows"),
        ("id,label\n0,0\n1,0\n2,0\n", r"expected Id,Class, got id,label"),
        ("Id,Class\n0,0\n2,0\n1,0\n", r"expected Id 1, got 2,0\n  where: .*sample_submission.csv:3"),
    ],
)
def test_another_sample_file(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        write_submission(tmp_path / "prediction.csv", CLASSES, 3, sample(tmp_path, text))
    assert not (tmp_path / "prediction.csv").exists()


def test_an_older_submission_survives_a_failure(tmp_path):
    path = tmp_path / "prediction.csv"
    path.write_text("older")
    with pytest.raises(InputError):
        write_submission(path, CLASSES, 2)
    assert path.read_text() == "older"
