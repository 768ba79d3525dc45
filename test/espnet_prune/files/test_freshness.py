import os

import numpy as np
import pytest
import soundfile

from espnet_prune.files import freshness
from espnet_prune.files.freshness import claim, code_of, digest, drop_stale, named, stamp


def test_files_count_by_content_and_words_as_they_are(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text("x")
    second.write_text("x")
    assert digest([first, "w"]) == digest([second, "w"]) != digest(["w", first])
    assert digest([first]) != digest([str(first)])
    second.write_text("y")
    assert digest([first]) != digest([second])


def test_a_directory_belongs_to_its_inputs(tmp_path):
    claim(tmp_path / "d", ["a"])
    claim(tmp_path / "d", ["b"])  # nothing has been made yet
    (tmp_path / "d" / "result").touch()
    with pytest.raises(ValueError, match="d was made from other data, models or options"):
        claim(tmp_path / "d", ["a"])
    claim(tmp_path / "d", ["b"])
    (tmp_path / "d" / ".inputs").unlink()
    with pytest.raises(ValueError, match="d holds files, but no note .*remove it"):
        claim(tmp_path / "d", ["b"])


@pytest.mark.parametrize("kind", ["flac", "wav"])
def test_other_audio_under_the_same_names_is_another_input(tmp_path, kind):
    audio, scp = tmp_path / f"a.{kind}", tmp_path / "wav.scp"
    scp.write_text(f"a {audio}\nb sox {'x' * 300} |\nc {tmp_path}/absent.wav\n")

    def digest_of(seed):
        noise = np.random.default_rng(seed).integers(-(1 << 15), 1 << 15, 1600).astype("int16")
        soundfile.write(audio, noise, 16000)
        os.utime(audio, (seed + 1, seed + 1))
        return digest([scp])

    first = digest_of(0)
    assert digest_of(1) != first == digest_of(0) == digest([scp])
    os.utime(audio, (9, 9))
    # formatted audio that was made anew is the same; of WAV nobody can tell but by reading it all
    assert (digest([scp]) == first) == (kind == "flac")


def test_archives_are_inputs(tmp_path):
    (tmp_path / "a.ark").write_text("x")
    (tmp_path / "feats.scp").write_text(f"a {tmp_path}/a.ark:5\n")
    before = digest([tmp_path / "feats.scp"])
    (tmp_path / "a.ark").write_text("longer")
    assert digest([tmp_path / "feats.scp"]) != before


def test_what_recipes_name(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    for name in ("config.json", "model.safetensors", "README.md"):
        (model / name).write_text(name)
    text = tmp_path / "text"
    text.write_text("")
    long = "--option " * 60
    words = [str(text), f"{text},text,text", str(model), "a,b,c", long, "1"]
    found = [text, text, "text", "text", str(model), model / "config.json"]
    found += [model / "model.safetensors", "a,b,c", long, "1"]
    assert list(named(words)) == found


def test_files_of_other_inputs_are_removed(tmp_path):
    source = tmp_path / "source"
    source.write_text("x")
    before = stamp(source)
    os.utime(source, (1e9, 1e9))
    assert stamp(source) != before
    for name in "abcd":
        (tmp_path / name).touch()
    assert drop_stale(tmp_path, {"a": "1", "b": "1", "c": "1"})
    # nobody knows what these were made of
    assert not any((tmp_path / name).exists() for name in "abc")
    for name in "abc":
        (tmp_path / name).touch()
    assert not drop_stale(tmp_path, {"a": "1", "b": "1", "c": "1"})
    assert drop_stale(tmp_path, {"a": "1", "b": "2"})
    assert [name for name in "abcd" if (tmp_path / name).exists()] == ["a", "d"]


def test_audio_of_a_wav_scp_counts_by_size_and_time(tmp_path):
    audio, scp = tmp_path / "a b.wav", tmp_path / "wav.scp"
    audio.write_text("x")
    scp.write_text(f"u {audio}\nv flac -c -d {tmp_path / 'c.flac'} |\nw absent.wav\n")
    (tmp_path / "c.flac").write_text("x")
    before = digest([scp])
    assert digest([scp]) == before != digest([str(scp)])
    os.utime(audio, (1e9, 1e9))
    after = digest([scp])
    assert after != before
    (tmp_path / "c.flac").write_text("xy")
    assert digest([scp]) != after


def test_the_code_that_computes_counts(monkeypatch, tmp_path):
    assert code_of("files") == code_of("files") != code_of("files/lock.py")
    package = tmp_path / "espnet_prune"
    (package / "files").mkdir(parents=True)
    (package / "data").mkdir()
    (package / "data" / "a.py").write_text("one = 1\n")
    monkeypatch.setattr(freshness, "__file__", str(package / "files" / "freshness.py"))
    code_of.cache_clear()
    before = code_of("data")
    assert before == code_of("data")
    code_of.cache_clear()
    (package / "data" / "a.py").write_text("one = 2\n")
    assert code_of("data") != before
    code_of.cache_clear()
