import pytest

from espnet_prune.files.growing import go_on, grow, read_grown


def test_goes_on_after_the_last_whole_line(tmp_path):
    path = tmp_path / "folder" / "rows.jsonl"
    assert read_grown(path) is None and go_on(path, {"seed": 0}) == []
    grow(path, [[1, "a"], [2, "b"]])
    with path.open("a") as file:
        file.write('[3, "half')
    assert read_grown(path) == ({"seed": 0}, [[1, "a"], [2, "b"]])
    assert go_on(path, {"seed": 0}) == [[1, "a"], [2, "b"]]
    grow(path, [[3, "c"]])
    assert path.read_text() == '{"seed": 0}\n[1, "a"]\n[2, "b"]\n[3, "c"]\n'


@pytest.mark.parametrize("text", ['{"seed": 1}\n[1]\n', '{"se', ""])
def test_another_header_starts_anew(tmp_path, text):
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    assert go_on(path, {"seed": 0}) == []
    assert path.read_text() == '{"seed": 0}\n'


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"seed": 0}\n[1\n[2]\n')
    with pytest.raises(ValueError, match="rows.jsonl: damaged .*; remove it"):
        go_on(path, {"seed": 0})
