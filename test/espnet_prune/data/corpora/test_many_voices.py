import pytest
import soundfile

from espnet_prune.data.corpora import many_voices
from espnet_prune.data.data_dir import read_dir, validate
from espnet_prune.hub.debian import PackageNotFound

FORTUNES = """A bird in the hand is worth two in the bush.
%
"It is never too late to be what you might have been," she said to him.
\t\t-- George Eliot
%
Short one.
%
Call 555-1234 <now> for [all] the things that nobody can read.
"""


def fake_tree(tmp_path):
    folder = tmp_path / "usr/share/games/fortunes"
    folder.mkdir(parents=True)
    (folder / "wisdom").write_text(FORTUNES)
    (folder / "wisdom.dat").write_bytes(b"\0\1")
    return tmp_path


def test_sentences_that_a_voice_can_read(tmp_path):
    found = many_voices.read_fortunes(fake_tree(tmp_path))
    assert "A bird in the hand is worth two in the bush." in found
    assert not any("Eliot" in text or "555" in text or text == "Short one." for text in found)


def prepared(tmp_path, sentences):
    try:
        return many_voices.prepare(tmp_path / "data", tmp_path / "downloads", sentences)
    except PackageNotFound as error:
        pytest.skip(f"Debian packages cannot be had here: {error}")


def test_each_sentence_is_read_once_and_kept(tmp_path):
    made = prepared(tmp_path, 6)
    assert made == {"train_voices": 5, "valid_voices": 1}
    tables = [read_dir(tmp_path / "data" / name) for name in made]
    for name in made:
        assert not validate(tmp_path / "data" / name)
    assert len({text for each in tables for text in each["text"].values()}) == 6
    audio = sorted((tmp_path / "downloads" / "many_voices_6").glob("*.flac"))
    assert len(audio) == 6
    assert all(soundfile.info(path).samplerate == 16000 for path in audio)
    before = [path.stat().st_mtime_ns for path in audio]
    content = audio[3].read_bytes()
    audio[3].unlink()
    assert prepared(tmp_path, 6) == made
    after = [path.stat().st_mtime_ns for path in audio]
    assert [a == b for a, b in zip(before, after, strict=True)] == [n != 3 for n in range(6)]
    assert audio[3].read_bytes() == content, "another voice or another sound"
    with pytest.raises(ValueError, match="--sentences is 1, but has to be 2 to "):
        many_voices.prepare(tmp_path / "data", tmp_path / "downloads", 1)
