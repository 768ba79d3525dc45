from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_prune.data import data_dir

NAMES = st.text("abcAB0é_-", min_size=1, max_size=4)


@pytest.fixture
def good(tmp_path):
    """A valid data directory of four utterances of two speakers, with text."""
    names = ["a-1", "a-2", "b-1", "b-2"]
    for name in names:
        (tmp_path / f"{name}.wav").write_bytes(b"")
    folder = tmp_path / "good"
    data_dir.write_dir(
        folder,
        {
            "wav.scp": {name: str(tmp_path / f"{name}.wav") for name in names},
            "text": {name: f"text of {name}" for name in names},
            "utt2spk": {name: name[0] for name in names},
        },
    )
    return folder


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_good_directory_is_valid_and_fix_leaves_it(good):
    assert data_dir.validate(good) == []
    before = {path.name: path.read_bytes() for path in good.iterdir()}
    assert data_dir.fix(good) == []
    assert {path.name: path.read_bytes() for path in good.iterdir() if path.is_file()} == before
    assert (good / "spk2utt").read_text() == "a a-1 a-2\nb b-1 b-2\n"


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("text", "a-2 text of a-2\n", "", "text: a-2: is in wav.scp but has no line here"),
        ("text", "a-2 text of a-2\n", "a-2\n", "text: a-2: has no text"),
        (
            "text",
            "b-2 text",
            "zz text",
            "text: zz: no such utterance in wav.scp; run espnet-prune data fix",
        ),
        ("text", "a-1", "c-1", "text: a-2: not sorted, comes after c-1; run espnet-prune data fix"),
        ("utt2spk", "a-2 a", "a-1 a", "utt2spk: a-1: is there twice"),
        ("utt2spk", "a-2 a", "a-2 a b", "utt2spk: a-2: needs one speaker, has 'a b'"),
        (
            "utt2spk",
            "a-2 a",
            "a-2 b",
            "spk2utt: a: does not agree with utt2spk; run espnet-prune data fix",
        ),
        ("wav.scp", "a-1.wav", "gone.wav", "wav.scp: a-1: the file"),
        ("wav.scp", "a-1.wav", "a-1.wav sox |", "sox |' is a command; write its output"),
    ],
)
def test_each_fault_has_its_line_and_fix_mends_it(good, file, old, new, message):
    edit(good / file, old, new)
    errors = data_dir.validate(good)
    assert any(message in error for error in errors), errors
    data_dir.fix(good)
    assert data_dir.validate(good) == []
    assert (good / ".backup" / file).is_file()


@pytest.mark.parametrize("name", ["wav.scp", "utt2spk", "spk2utt", "text"])
def test_missing_and_empty_files_are_named(good, name):
    (good / name).write_text("")
    assert any(f"{good / name}: is empty" in error for error in data_dir.validate(good))
    (good / name).unlink()
    assert any(f"{good / name}: no such file" in error for error in data_dir.validate(good))
    assert (data_dir.validate(good, need_text=False) == []) is (name == "text")


def test_missing_directory_and_broken_lines(good, tmp_path):
    assert "no such data directory" in data_dir.validate(tmp_path / "none")[0]
    (good / "text").write_bytes(b"a-1 \xff\n")
    assert "text: not UTF-8 text (byte 4)" in data_dir.validate(good)[0]
    (good / "text").write_text("a-1 x\n\na-2 y\n")
    assert "line 2 is empty; remove it" in data_dir.validate(good)[0]
    (good / "text").write_text("a-1 x\na-1 x\n")
    with pytest.raises(ValueError, match="line 2: a-1 is there twice"):
        data_dir.read_table(good / "text")


@pytest.mark.parametrize(
    "value", ["rec 1", "rec 2 1", "rec -1 2", "rec x 1", "rec 0 nan", "no 0 1"]
)
def test_bad_segment_is_named_and_fixed(good, tmp_path, value):
    data_dir.write_table(
        good / "wav.scp", {"rec": tmp_path / "a-1.wav", "un": tmp_path / "b-1.wav"}
    )
    segments = {name: f"rec {i} {i + 1}" for i, name in enumerate(["a-1", "a-2", "b-1", "b-2"])}
    data_dir.write_table(good / "segments", segments)
    assert data_dir.validate(good) == []
    data_dir.write_table(good / "segments", {**segments, "a-2": value})
    assert any("segments: a-2:" in error for error in data_dir.validate(good))
    messages = data_dir.fix(good)
    assert any("segments: dropped a-2" in message for message in messages)
    assert any("wav.scp: dropped un: no utterance needs it" in message for message in messages)
    assert data_dir.validate(good) == []


def test_fix_says_what_it_drops_and_keeps_the_originals(good):
    edit(good / "text", "a-2 text of a-2\n", "")
    original = (good / "utt2spk").read_text()
    messages = data_dir.fix(good)
    assert messages == [
        f"{good / 'wav.scp'}: dropped a-2: not in text",
        f"{good / 'utt2spk'}: dropped a-2: not in text",
    ]
    assert (good / ".backup" / "utt2spk").read_text() == original


def test_fix_refuses_to_leave_nothing(good):
    (good / "text").write_text("zz other\n")
    with pytest.raises(ValueError, match="no utterance is good in all of wav.scp, text, utt2spk"):
        data_dir.fix(good)
    assert (good / "wav.scp").is_file()


messy_table = st.lists(st.tuples(NAMES, st.sampled_from(["", "x", "y", "x y", "3"])), max_size=8)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_fix_then_validate_passes(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("messy")
    (folder / "x").touch()
    tables = ["wav.scp", "utt2spk"] + data.draw(
        st.lists(st.sampled_from(["text", "utt2num_samples", "utt2lang"]), unique=True)
    )
    for name in tables:
        rows = data.draw(messy_table)
        value = {"wav.scp": str(folder / "x"), "utt2num_samples": "7"}.get(name, "v")
        rows += [(key, value) for key in data.draw(st.sets(NAMES, max_size=3)) | {"sure"}]
        (folder / name).write_text("".join(f"{key} {value}\n" for key, value in rows))
    try:
        messages = data_dir.fix(folder)
    except ValueError as error:  # "sure" itself may have got two different lines
        assert "no utterance is good" in str(error)
        return
    assert data_dir.validate(folder, need_text="text" in tables) == []
    assert data_dir.fix(folder) == []
    assert all(str(folder) in message for message in messages)


def write_simple(folder, names, **more):
    data_dir.write_dir(
        folder, {"wav.scp": dict.fromkeys(names, "x"), "utt2spk": {n: "s" for n in names}, **more}
    )


@settings(max_examples=40, deadline=None)
@given(names=st.sets(NAMES, min_size=1, max_size=12), number=st.integers(1, 14), seed=st.integers())
def test_subset_and_combine_keep_every_utterance_once(tmp_path_factory, names, number, seed):
    root = tmp_path_factory.mktemp("subset")
    write_simple(root / "all", names, text={name: "t" for name in names})
    size = data_dir.subset(root / "all", root / "some", random=number, seed=seed)
    some = set(data_dir.read_table(root / "some" / "wav.scp"))
    assert len(some) == size == min(number, len(names))
    rest = names - some
    sources = [root / "some"]
    if rest:
        (root / "list").write_text("".join(f"{name} x\n" for name in sorted(rest)))
        data_dir.subset(root / "all", root / "rest", utt_list=root / "list")
        sources.append(root / "rest")
    assert data_dir.combine(root / "again", sources) == []
    for name in ("wav.scp", "text", "utt2spk", "spk2utt"):
        assert (root / "again" / name).read_bytes() == (root / "all" / name).read_bytes()


def test_subset_first_and_its_errors(good, tmp_path):
    assert data_dir.subset(good, tmp_path / "two", first=2) == 2
    assert list(data_dir.read_table(tmp_path / "two" / "text")) == ["a-1", "a-2"]
    assert data_dir.validate(tmp_path / "two") == []
    (tmp_path / "list").write_text("a-1\nnobody\n")
    with pytest.raises(ValueError, match="list: nobody is not an utterance of"):
        data_dir.subset(good, tmp_path / "x", utt_list=tmp_path / "list")
    with pytest.raises(ValueError, match="a subset of 0 utterances"):
        data_dir.subset(good, tmp_path / "x", first=0)
    with pytest.raises(ValueError, match="exactly one"):
        data_dir.subset(good, tmp_path / "x", first=1, random=1)
    with pytest.raises(ValueError, match="same directory"):
        data_dir.subset(good, good, first=1)


def test_subset_of_segments_keeps_only_their_recordings(tmp_path):
    data_dir.write_dir(
        tmp_path / "all",
        {
            "wav.scp": {"r1": "x", "r2": "y"},
            "segments": {"u1": "r1 0 1", "u2": "r2 0 1"},
            "utt2spk": {"u1": "s", "u2": "s"},
        },
    )
    data_dir.subset(tmp_path / "all", tmp_path / "one", first=1)
    assert data_dir.read_table(tmp_path / "one" / "wav.scp") == {"r1": "x"}


def test_combine_leaves_out_partial_tables_and_refuses_conflicts(tmp_path):
    write_simple(tmp_path / "a", ["a1", "a2"], text={"a1": "x", "a2": "y"})
    write_simple(tmp_path / "b", ["b1"])
    messages = data_dir.combine(tmp_path / "ab", [tmp_path / "a", tmp_path / "b"])
    assert messages == [f"{tmp_path / 'ab'}: left out text, which not every source has"]
    with pytest.raises(ValueError, match="a1 is in .*/a and in .*/ab"):
        data_dir.combine(tmp_path / "x", [tmp_path / "a", tmp_path / "ab"])
    write_simple(tmp_path / "c", ["c1"], segments={"c1": "c1 0 1"})
    with pytest.raises(ValueError, match="/a: has no segments but others have"):
        data_dir.combine(tmp_path / "x", [tmp_path / "a", tmp_path / "c"])
    with pytest.raises(FileNotFoundError, match="none: no such data directory"):
        data_dir.combine(tmp_path / "x", [tmp_path / "none"])


def test_a_table_of_an_earlier_run_does_not_stay(tmp_path):
    write_simple(tmp_path / "a", ["u"], text={"u": "old"})
    write_simple(tmp_path / "a", ["u"])
    assert not (tmp_path / "a" / "text").exists()


@settings(max_examples=50, deadline=None)
@given(lines=st.lists(NAMES, min_size=1, max_size=30), data=st.data())
def test_split_keeps_every_line_once_in_order(tmp_path_factory, lines, data):
    root = tmp_path_factory.mktemp("split")
    (root / "all.scp").write_text("".join(f"{name} v\n" for name in lines))
    parts = data.draw(st.integers(1, len(lines)))
    paths = data_dir.split(root / "all.scp", parts, f"{root}/sub/part.JOB.scp")
    assert [path.name for path in paths] == [f"part.{i + 1}.scp" for i in range(parts)]
    assert "".join(path.read_text() for path in paths) == (root / "all.scp").read_text()
    sizes = Counter(len(path.read_text().splitlines()) for path in paths)
    assert max(sizes) - min(sizes) <= 1


def test_split_errors(tmp_path):
    (tmp_path / "a").write_text("u v\n")
    with pytest.raises(ValueError, match="1 lines cannot be split into 2 parts; give 1 to 1"):
        data_dir.split(tmp_path / "a", 2, "x.JOB")
    with pytest.raises(ValueError, match="needs JOB"):
        data_dir.split(tmp_path / "a", 1, "x")


@pytest.mark.parametrize(
    "value", ["/x/a.flac", "cat /x/a.flac |", "flac -c -d -s /x/a.flac |", "flac -cds /x/a.flac|"]
)
def test_commands_that_only_read_a_file_stand_for_it(value):
    assert str(data_dir.audio_path(value)) == "/x/a.flac"


@pytest.mark.parametrize(
    "value", ["sox a.wav -r 16k -t wav - |", "flac -d |", "rm x; cat y |", "|"]
)
def test_other_commands_are_refused(value):
    with pytest.raises(ValueError, match="is a command; write its output to a file"):
        data_dir.audio_path(value)


def test_what_is_drawn_depends_on_names_and_seed_alone():
    names = [f"u{n}" for n in range(50)]
    chosen = data_dir.drawn(names, 10)
    assert len(set(chosen)) == 10 and chosen == data_dir.drawn(names[::-1], 10)
    assert data_dir.drawn(names)[:10] == chosen != data_dir.drawn(names, 10, seed=1)


@pytest.mark.parametrize("write", ["subset", "combine", "write_dir"])
def test_tables_of_others_are_not_written_over(good, tmp_path, write):
    target = tmp_path / "mine"
    target.mkdir()
    (target / "text").write_text("a my own text\n")
    calls = {
        "subset": lambda: data_dir.subset(good, target, first=1),
        "combine": lambda: data_dir.combine(target, [good]),
        "write_dir": lambda: data_dir.write_dir(target, data_dir.read_dir(good)),
    }
    with pytest.raises(ValueError, match="mine: holds text, which was not written here; move it"):
        calls[write]()
    assert [path.name for path in target.iterdir()] == ["text"]
    (target / "text").unlink()
    calls[write]()
    calls[write]()
    assert data_dir.validate(target) == []


def test_paths_that_are_too_long_are_faults_of_their_entry(good):
    edit(good / "wav.scp", "b-1.wav", "b" * 300 + ".wav")
    (error,) = data_dir.validate(good)
    assert "wav.scp: b-1: the file" in error and "does not exist" in error
    assert any("dropped b-1" in line for line in data_dir.fix(good))


def test_tables_of_notepad(good):
    for path in good.iterdir():
        if path.name != data_dir.MARK:
            path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    before = data_dir.read_dir(good)
    assert list(before["text"]) == ["a-1", "a-2", "b-1", "b-2"]
    assert data_dir.validate(good) == [] and data_dir.fix(good) == []
    assert data_dir.read_dir(good) == before
    assert b"\xef\xbb\xbf" not in (good / "text").read_bytes()


def test_a_line_separator_is_no_line_break(good):
    edit(good / "text", "text of a-1", "text\u2028of a-1")
    assert data_dir.validate(good) == []
    assert data_dir.read_table(good / "text")["a-1"] == "text\u2028of a-1"


@pytest.mark.parametrize(
    "table", [{"a b": "x"}, {"a": "x\ny"}, {"a": "x\ry"}, {"a\u2028b": "x"}, {"": "x"}]
)
def test_what_would_be_read_as_something_else_is_not_written(tmp_path, table):
    with pytest.raises(ValueError, match="t: .*: blanks in the name, or line breaks in the value"):
        data_dir.write_table(tmp_path / "t", table)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("..", "'..' cannot be the name of a file"),
        ("a/b", "'a/b' cannot be the name of a file"),
        ("ä" * 101, "'ä+…' has 202 bytes, but 200 are the most"),
    ],
)
def test_names_that_no_file_can_have(name, message):
    with pytest.raises(ValueError, match=message):
        data_dir.file_name(name)
    assert data_dir.file_name("ä" * 100) == "ä" * 100


@pytest.mark.parametrize("number", ["0", "-1", "1.5", "x", "9" * 5000])
def test_counts(tmp_path, number):
    (tmp_path / "c").write_text(f"a 1\nb {number}\n")
    with pytest.raises(ValueError, match="c: b: '.*' is not a positive whole number"):
        data_dir.read_counts(tmp_path / "c")


def test_malformed_values_are_told_with_file_and_key(good, tmp_path):
    (good / "segments").write_text("u a-1 1 0\n")
    with pytest.raises(
        ValueError, match="good/segments: u: 'a-1 1 0' is not 'recording begin end'"
    ):
        data_dir.subset(good, tmp_path / "part", first=1)
    (good / "segments").unlink()
    (good / "wav.scp").write_text("u\n")
    with pytest.raises(ValueError, match="good/wav.scp: u: no path is given"):
        data_dir.read_scp(good / "wav.scp")


def test_segments_are_not_passed_over(good):
    assert data_dir.read_scp(good / "wav.scp") == data_dir.read_table(good / "wav.scp")
    (good / "segments").write_text("u a-1 0 1\n")
    with pytest.raises(ValueError, match="segments: whole recordings are read here; cut them by"):
        data_dir.read_scp(good / "wav.scp")
