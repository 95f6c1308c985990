import pytest

from phoneme.errors import InputError
from phoneme.phones import PhoneTable, fold, read_table, timit39, timit48, timit61, unnamed
from tests.folders import SAMPLE

# the class list that the 2021 homework states
HOMEWORK_2021 = """0 iy 1 ih 2 eh 3 ae 4 ah 5 uw 6 uh 7 aa 8 ey 9 ay 10 oy 11 aw 12 ow 13 l 14 r 15 y 16 w
17 er 18 m 19 n 20 ng 21 ch 22 jh 23 dh 24 b 25 d 26 dx 27 g 28 p 29 t 30 k 31 z 32 v 33 f 34 th 35 s 36 sh
37 hh 38 sil"""

# Lee & Hon (1989), table II and section III: who is folded into whom
FOLDED_48 = {
    "ax-h": "ax", "ux": "uw", "axr": "er", "em": "m", "nx": "n", "eng": "ng", "hv": "hh", "h#": "sil",
    "pau": "sil",
    "pcl": "cl", "tcl": "cl", "kcl": "cl", "bcl": "vcl", "dcl": "vcl", "gcl": "vcl", "q": None,
}  # fmt: skip
FOLDED_39 = {
    "cl": "sil", "vcl": "sil", "epi": "sil", "el": "l", "en": "n", "zh": "sh", "ao": "aa", "ix": "ih",
    "ax": "ah",
}  # fmt: skip


def names(source, target):
    return {
        phone: None if index is None else target.phones[index]
        for phone, index in zip(source.phones, fold(source, target), strict=True)
    }


def test_timit39_is_in_the_order_of_the_homework():
    words = HOMEWORK_2021.split()
    assert [int(index) for index in words[::2]] == list(range(39))
    assert timit39().phones == tuple(words[1::2])
    assert timit39().silence == {38}


def test_timit_folds_as_lee_and_hon():
    assert [len(table) for table in (timit61(), timit48(), timit39())] == [61, 48, 39]
    assert names(timit61(), timit48()) == {phone: FOLDED_48.get(phone, phone) for phone in timit61().phones}
    assert names(timit48(), timit39()) == {phone: FOLDED_39.get(phone, phone) for phone in timit48().phones}


def test_folding_in_one_step_is_folding_in_two():
    second = fold(timit48(), timit39())
    two_steps = tuple(None if index is None else second[index] for index in fold(timit61(), timit48()))
    assert fold(timit61(), timit39()) == two_steps
    assert [timit61().phones[k] for k, index in enumerate(two_steps) if index is None] == ["q"]


def test_silence_is_what_folds_to_sil():
    silent = {"h#", "pau", "epi", "pcl", "tcl", "kcl", "bcl", "dcl", "gcl"}
    assert {timit61().phones[k] for k in timit61().silence} == silent
    assert {timit48().phones[k] for k in timit48().silence} == {"sil", "epi", "cl", "vcl"}


def test_the_bundled_table():
    table = read_table(SAMPLE / "phones.txt")
    assert len(table) == 41
    assert table.phones[:3] == ("SIL", "SPN", "AA") and table.phones[40] == "ZH"
    assert table.silence == {0}


def test_unnamed():
    assert unnamed(41).phones[40] == "class 40"
    assert len(unnamed(41)) == 41


@pytest.mark.parametrize("table", [timit39(), unnamed(3)])
def test_a_table_survives_primitives(table):
    assert PhoneTable.from_dict(table.to_dict()) == table


def test_a_table_may_have_any_order_blank_lines_and_windows_line_ends(tmp_path):
    (tmp_path / "two.txt").write_bytes(b"1 AA\r\n\r\n0 sil\r\n")
    assert read_table(tmp_path / "two.txt") == PhoneTable("two", ("sil", "AA"), frozenset({0}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 SIL\n1 AA extra\n", r"got '1 AA extra'\n  where: .*phones.txt:2\n  hint: write one class a line"),
        ("0 SIL\n0 AA\n", "got '0 AA'"),
        ("0 AA\n1 AA\n", "got '1 AA'"),
        ("zero SIL\n", "got 'zero SIL'"),
        ("0 SIL\n2 AA\n", "2 classes that are not numbered 0, 1, 2"),
        ("", "0 classes that are not numbered"),
    ],
)
def test_bad_tables(tmp_path, text, message):
    (tmp_path / "phones.txt").write_text(text)
    with pytest.raises(InputError, match=message):
        read_table(tmp_path / "phones.txt")


def test_a_missing_table(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_table(tmp_path / "phones.txt")
