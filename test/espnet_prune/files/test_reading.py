import gzip

import pytest

from espnet_prune.files import reading
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


def test_a_bomb_of_gzip_is_not_unpacked(tmp_path, monkeypatch):
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(bytes(3 << 20)))
    assert len(read_text(path)) == 3 << 20
    monkeypatch.setattr(reading, "MOST_UNPACKED", 1 << 20)
    with pytest.raises(ValueError, match="a.gz: has more than 1 MB in it; unpack it"):
        read_text(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="a.gz: (not gzipped|has more than)"):
        read_text(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a":' * 100000, "nested too deeply"),
        ("[" * 100000, "nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "not JSON: Exceeds the limit"),
        ('{"a": "\\ud800"}', "not JSON: .*surrogates not allowed"),
    ],
)
def test_json_that_no_program_would_write(tmp_path, text, message):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"a.json: .*{message}"):
        read_record(path)
    with pytest.raises(ValueError, match=f"a.json: line 1: .*{message}"):
        read_rows(path)


def test_half_a_pair_is_no_character_but_a_pair_is(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a": "\\ud83d\\ude00"}')
    assert read_record(path) == {"a": "\U0001f600"}


@pytest.mark.parametrize("text", ["[" * 20000, "a: " + "9" * 5000])
def test_yaml_that_no_program_would_write(tmp_path, text):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match="a.yaml: not YAML"):
        read_config(path)
