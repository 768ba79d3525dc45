import os

import pytest

from espnet_prune.files.writing import write_file, write_json, write_text


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "folder" / "a.json"
    write_json(path, {"b": [1]})
    assert path.read_text() == '{\n  "b": [\n    1\n  ]\n}\n'

    def fail(temporary):
        assert temporary.parent == path.parent and temporary.suffix == ".json"
        temporary.write_text("half of")
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        write_file(path, fail)
    assert path.read_text().startswith("{") and os.listdir(path.parent) == ["a.json"]
    write_text(path, "ö")
    assert path.read_bytes() == "ö".encode()


def test_errors_name_the_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file/a") as error:
        write_text(tmp_path / "file" / "a", "")
    assert "tmp" not in os.path.basename(error.value.filename)
    (tmp_path / "b").mkdir()
    with pytest.raises(OSError, match="/b'"):
        write_text(tmp_path / "b", "")


def test_the_reason_and_the_file_are_told_where_a_library_gives_no_number(tmp_path):
    def fail(temporary):
        temporary.write_text("half")
        raise OSError("8000 requested and 100 written")  # numpy, where the disk is full

    with pytest.raises(OSError, match="a.npy: 8000 requested and 100 written"):
        write_file(tmp_path / "a.npy", fail)
    assert os.listdir(tmp_path) == []
