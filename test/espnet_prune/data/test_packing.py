import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_prune.data import data_dir
from espnet_prune.data.packing import Part, pack, plan_windows


def parse_parts(value):
    """Read a value of utt2parts: utterance,offset,begin,num_samples with spaces between."""
    fields = [part.rsplit(",", 3) for part in value.split()]
    return [Part(utterance, *map(int, numbers)) for utterance, *numbers in fields]


LENGTHS = st.dictionaries(
    st.text("abc,_-", min_size=1, max_size=4), st.integers(1, 250), max_size=40
)


@settings(deadline=None)
@given(
    lengths=LENGTHS,
    window=st.integers(1, 100),
    gap=st.integers(0, 20),
    seed=st.integers(0, 3),
    share=st.sampled_from([None, 0.1, 0.5, 1.0]),
)
def test_every_sample_is_packed_once_and_windows_are_never_too_long(
    lengths, window, gap, seed, share
):
    min_fill = None if share is None else max(1, round(share * window))
    windows = plan_windows(lengths, window, gap, seed, min_fill)
    covered = {name: np.zeros(length, int) for name, length in lengths.items()}
    for parts in windows:
        assert parse_parts(" ".join(map(str, parts))) == parts
        assert parts[0].offset == 0
        for before, after in zip(parts, parts[1:], strict=False):
            assert after.offset == before.offset + before.num_samples + gap
        assert parts[-1].offset + parts[-1].num_samples <= window
        for part in parts:
            covered[part.utterance][part.begin : part.begin + part.num_samples] += 1
    assert all((count == 1).all() for count in covered.values())
    for name, length in lengths.items():  # cut only where it must be
        pieces = sum(part.utterance == name for parts in windows for part in parts)
        assert pieces == -(-length // window)


@given(lengths=LENGTHS, order=st.randoms())
def test_the_plan_does_not_depend_on_the_order_of_the_table(lengths, order):
    shuffled = list(lengths.items())
    order.shuffle(shuffled)
    assert plan_windows(lengths, 100, 5) == plan_windows(dict(shuffled), 100, 5)


def test_windows_are_well_filled_and_the_seed_changes_the_order():
    lengths = {f"u{i}": 20 + i * 37 % 100 for i in range(500)}
    windows = plan_windows(lengths, 480, 5)
    least = (sum(lengths.values()) + 5 * len(lengths)) / 480
    assert len(windows) < 1.05 * least
    assert plan_windows(lengths, 480, 5, seed=1) != windows


def test_min_fill_spreads_the_rooms_of_windows_evenly():
    windows = plan_windows({f"u{i}": 2 for i in range(20000)}, 480, 0, min_fill=240)
    filled = np.array([parts[-1].offset + parts[-1].num_samples for parts in windows])[:-20]
    assert filled.min() >= 238 and filled.max() <= 480  # the last ones are still being filled
    assert filled.mean() == pytest.approx(360, abs=30)
    with pytest.raises(ValueError, match="min_fill is 481 samples, but has to be in 1 to 480"):
        plan_windows({"u": 1}, 480, 0, min_fill=481)


@pytest.fixture
def source(tmp_path):
    """A formatted directory at 1 kHz: utterance u<i> has 300 + 100 i samples of value i + 1."""
    tables = {"wav.scp": {}, "utt2spk": {}, "utt2num_samples": {}, "text": {}}
    for i in range(9):
        path = tmp_path / f"{i}.flac"
        soundfile.write(path, np.full(300 + 100 * i, i + 1, dtype=np.int16), 1000)
        tables["wav.scp"][f"u{i}"] = str(path)
        tables["utt2spk"][f"u{i}"] = "s"
        tables["utt2num_samples"][f"u{i}"] = str(300 + 100 * i)
        tables["text"][f"u{i}"] = "text"
    data_dir.write_dir(tmp_path / "train", tables)
    return tmp_path / "train"


@pytest.mark.parametrize("workers", [1, 2])
def test_audio_stands_where_utt2parts_says(source, tmp_path, workers):
    (line,) = pack(source, tmp_path / "out", window=1.0, gap=0.1, num_workers=workers)
    assert data_dir.validate(tmp_path / "out", need_text=False) == []
    assert not (tmp_path / "out" / "text").exists()
    scp = data_dir.read_table(tmp_path / "out" / "wav.scp")
    parts_of = data_dir.read_table(tmp_path / "out" / "utt2parts")
    assert list(scp) == [f"train-{i + 1:06d}" for i in range(len(scp))]
    share = f"{630 / len(scp):.0f}% of them speech"
    number = f"9 utterances, 0.1 minutes, in {len(scp)} windows"
    assert line == f"{tmp_path / 'out'}: {number}, {share}"
    packed = 0
    for name, path in scp.items():
        samples, rate = soundfile.read(path, dtype="int16")
        assert rate == 1000 and len(samples) <= 1000
        expected = np.zeros(len(samples), np.int16)
        for part in parse_parts(parts_of[name]):
            expected[part.offset : part.offset + part.num_samples] = int(part.utterance[1:]) + 1
            packed += part.num_samples
        assert np.array_equal(samples, expected)
    assert packed == 6300


def test_a_second_run_keeps_windows_and_another_plan_replaces_them(source, tmp_path):
    out = tmp_path / "out"
    pack(source, out, window=1.0, gap=0.1)
    files = {path: path.stat().st_mtime_ns for path in (out / "data").iterdir()}
    lost = min(files)
    lost.unlink()
    (out / "wav.scp").unlink()  # as after an interruption
    pack(source, out, window=1.0, gap=0.1)
    again = {path: path.stat().st_mtime_ns for path in (out / "data").iterdir()}
    assert again.keys() == files.keys()
    assert {path for path in files if files[path] != again[path]} == {lost}
    pack(source, out, window=2.0, gap=0.1)
    assert len(list((out / "data").iterdir())) == len(data_dir.read_table(out / "wav.scp"))


def test_errors(source, tmp_path):
    with pytest.raises(ValueError, match="nothing can be packed"):
        pack(source, tmp_path / "out", window=0.0)
    soundfile.write(tmp_path / "3.flac", np.zeros(17, np.int16), 1000)
    with pytest.raises(ValueError, match="3.flac: 17 samples.*run `data format` again"):
        pack(source, tmp_path / "out")
    (source / "utt2num_samples").unlink()
    with pytest.raises(ValueError, match="is not formatted; run `data format`"):
        pack(source, tmp_path / "out")
    with pytest.raises(ValueError, match="same directory"):
        pack(source, source)


def test_what_was_not_written_here_stays(source, tmp_path):
    recipe = tmp_path / "recipe"
    (recipe / "data" / "train").mkdir(parents=True)
    (recipe / "data" / "train" / "wav.scp").write_text("u x\n")
    with pytest.raises(ValueError, match="recipe: holds data, which was not written here; move"):
        pack(source, recipe)
    assert [path.name for path in recipe.rglob("*")] == ["data", "train", "wav.scp"]
    pack(source, tmp_path / "new", window=1.0)
    (tmp_path / "new" / "notes").touch()  # as `labels` of a recipe's next stage
    pack(source, tmp_path / "new", window=2.0)
    assert (tmp_path / "new" / "notes").is_file()
