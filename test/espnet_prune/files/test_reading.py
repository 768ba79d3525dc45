import gzip

import pytest

from espnet_prune.files.reading import read_config, read_lines, read_record, read_rows, read_text


def test_text_of_other_systems(tmp_path):
    path = tmp_path / "a"
    path.write_bytes("\ufeffone\r\ntwo\u2028of\n".encode())
    assert read_text(path) == "one\ntwo\u2028of\n"
    assert read_lines(path) == ["one", "two\u2028of"]
    path.write_bytes(b"")
    assert read_lines(path) == []


def test_errors_name_file_and_line(tmp_path):
    path = tmp_path / "a"
    with pytest.raises(FileNotFoundError, match="a: no such file; look"):
        read_text(path, "look there")
    path.write_bytes(b"one\n\xe9\n")
    with pytest.raises(ValueError, match=r"a: not UTF-8 text \(byte 4\); convert it \(line 2\)"):
        read_text(path)
    path.write_text('{"a": 1}\n[]\n')
    with pytest.raises(ValueError, match="a: line 2: not a JSON object"):
        read_rows(path)
    with pytest.raises(ValueError, match="a: not JSON: "):
        read_record(path)
    path.write_text('{"a": 1}\n')
    assert read_rows(path) == [{"a": 1}] and read_record(path, ["a"]) == {"a": 1}
    with pytest.raises(ValueError, match="a: has no 'b'; make it again"):
        read_record(path, "ab")


def test_config(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("")
    assert read_config(path) == {}
    path.write_text("a: 1\n")
    assert read_config(path) == {"a": 1}
    path.write_text("a: [\n")
    with pytest.raises(ValueError, match="a.yaml: not YAML: "):
        read_config(path)
    path.write_text("- a\n")
    with pytest.raises(ValueError, match="a.yaml: not a YAML mapping"):
        read_config(path)


def test_a_gzipped_file_is_unpacked(tmp_path):
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress("\ufeffone\r\nzwölf\n".encode()))
    assert read_lines(path) == ["one", "zwölf"]
    path.write_bytes(b"plain")
    with pytest.raises(ValueError, match="a.txt.gz: not gzipped"):
        read_text(path)
