import gzip
from collections import Counter

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from espnet_prune.data import data_dir
from espnet_prune.data.corpora import voice_prompts
from espnet_prune.hub.debian import PackageNotFound

TRANSCRIPTS = """\
; Core Asterisk Sounds in English

beep: [this is a simple beep tone]
confbridge-join: <beep ascending>
silence/1: (1 second of silence)
letters/at: at [@]
followme/status: not at their desk; I will try
demo-instruct: dial 500 to attempt
conf-menu: 3 to umute, 8 to exit
de-activated: De-activated.
gone: No recording of it.
"""
FOLDERS = ["en_US_f_Allison", "es_MX_f_Allison", "fr_CA_f_June", "it_IT_m_Carlo", "ru_RU_f_Ivr"]
SPOKEN = ["letters/at", "followme/status", "demo-instruct", "conf-menu", "de-activated"]


def write_audio(path, seconds=0.2, rate=8000):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(round(seconds * rate)), rate)


@pytest.fixture
def tree(tmp_path):
    """What the packages unpack to, with few prompts."""
    share = tmp_path / "tree" / "usr" / "share"
    doc = share / "doc" / "asterisk-core-sounds-en"
    doc.mkdir(parents=True)
    (doc / "core-sounds-en.txt.gz").write_bytes(gzip.compress(TRANSCRIPTS.encode()))
    for folder in FOLDERS:
        for name in [*SPOKEN, "beep", "confbridge-join", "silence/1", "silence/77"]:
            write_audio(share / "asterisk" / "sounds" / folder / f"{name}.wav")
    write_audio(share / "asterisk" / "sounds" / FOLDERS[-1] / "is.wav", seconds=0)
    return tmp_path / "tree"


def test_prompts_that_are_no_speech_are_left_out_in_all_languages(tree):
    recordings = voice_prompts.read_prompts(tree)
    assert Counter(r.language for r in recordings) == {
        language: len(SPOKEN) for language in voice_prompts.LANGUAGES
    }
    assert {r.prompt for r in recordings} == set(SPOKEN)
    assert {r.speaker for r in recordings} == {
        "en_allison",
        "es_allison",
        "fr_june",
        "it_carlo",
        "ru_ivr",
    }
    assert all(r.name == f"{r.speaker}-{r.prompt.replace('/', '_')}" for r in recordings)


def test_english_transcripts_are_what_is_spoken(tree):
    texts = {r.prompt: r.text for r in voice_prompts.read_prompts(tree) if r.language == "en"}
    assert texts == {
        "letters/at": "at",
        "followme/status": "not at their desk i will try",
        "demo-instruct": "",  # "five hundred" or "five zero zero"
        "conf-menu": "three to unmute eight to exit",
        "de-activated": "deactivated",
    }
    others = [r.text for r in voice_prompts.read_prompts(tree) if r.language != "en"]
    assert not any(others)


def test_damaged_packages_are_named(tree):
    transcripts = tree / "usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz"
    transcripts.write_bytes(gzip.compress(b"no colon here\n"))
    with pytest.raises(ValueError, match="line 1: 'no colon here' is not 'name: text'"):
        voice_prompts.read_prompts(tree)
    transcripts.write_bytes(b"plain")
    with pytest.raises(ValueError, match="core-sounds-en.txt.gz: not gzipped"):
        voice_prompts.read_prompts(tree)
    transcripts.unlink()
    with pytest.raises(FileNotFoundError, match="core-sounds-en.txt.gz: no such file"):
        voice_prompts.read_prompts(tree)


@pytest.mark.parametrize(
    ("name", "split"),
    # Fixed for good: results of different versions are only comparable on the same split.
    [("digits/1", "train"), ("activated", "test"), ("call-forwarding", "dev"), ("hello", "train")],
)
def test_the_split_of_a_prompt_stays(name, split):
    assert voice_prompts.prompt_split(name) == split
    assert voice_prompts.prompt_split(name.upper()) == split


@given(st.text())
def test_the_split_is_one_of_three(name):
    assert voice_prompts.split_of(name) in voice_prompts.SPLITS


def test_the_shares_of_the_splits():
    counts = Counter(voice_prompts.split_of(f"name {i}") for i in range(20000))
    for split, share in (("train", 0.76), ("dev", 0.08), ("test", 0.16)):
        assert counts[split] / 20000 == pytest.approx(share, abs=0.01)


def test_copies_of_a_recording_go_into_one_split():
    for copy, name in voice_prompts._COPIES.items():
        assert voice_prompts.prompt_split(copy) == voice_prompts.split_of(name)
        assert name not in voice_prompts._COPIES


@pytest.fixture
def audio(tmp_path):
    """A folder of 60 recordings of two speakers, the first speaker's with transcripts."""
    for i in range(60):
        write_audio(tmp_path / "audio" / f"{'ab'[i % 2]} x" / f"n {i}.{('wav', 'FLAC')[i // 30]}")
        if i % 2 == 0:
            (tmp_path / "audio" / "a x" / f"n {i}.txt").write_text(f"Number {i % 10}.\n")
    return tmp_path / "audio"


def test_audio_dir_gives_the_same_sets(audio, tmp_path):
    sizes = voice_prompts.prepare(tmp_path / "data", tmp_path / "none", audio)
    to_prune = {"train_ssl", "valid_ssl", "train_some", "valid_some"}
    assert set(sizes) == to_prune | {"train_en", "dev_en", "test_en"}
    assert sizes["train_some"] == sizes["train_ssl"], "the language is taken for English"
    for name in sizes:
        assert data_dir.validate(tmp_path / "data" / name, need_text=name.endswith("en")) == []
    transcribed = [
        set(data_dir.read_table(tmp_path / "data" / f"{s}_en" / "text"))
        for s in voice_prompts.SPLITS
    ]
    assert set.union(*transcribed) == {f"a_x-n_{i}" for i in range(0, 60, 2)}
    assert sum(map(len, transcribed)) == 30
    ssl = [
        set(data_dir.read_table(tmp_path / "data" / s / "wav.scp"))
        for s in ("train_ssl", "valid_ssl")
    ]
    assert transcribed[0] <= ssl[0] and transcribed[1] <= ssl[1]
    assert not transcribed[2] & (ssl[0] | ssl[1])
    assert not (tmp_path / "data" / "train_ssl" / "text").exists()


def test_audio_dir_without_transcripts_has_no_english_sets(audio, tmp_path):
    for path in audio.rglob("*.txt"):
        path.unlink()
    sizes = voice_prompts.prepare(tmp_path / "data", tmp_path / "none", audio)
    assert set(sizes) == {"train_ssl", "valid_ssl", "train_some", "valid_some"}


def test_long_recordings_are_not_in_the_sets_with_transcripts(audio, tmp_path):
    for i in range(0, 60, 2):
        path = next(audio.glob(f"a x/n {i}.*[vC]"))
        if voice_prompts.split_of(f"a x/n {i}") == "train":
            write_audio(path, seconds=30.5)
            break
    sizes = voice_prompts.prepare(tmp_path / "data", tmp_path / "none", audio)
    assert sizes["train_en"] + sizes["dev_en"] + sizes["test_en"] == 29
    assert f"a_x-n_{i}" in data_dir.read_table(tmp_path / "data" / "train_ssl" / "wav.scp")


def test_audio_dir_errors(audio, tmp_path):
    def prepare(folder):
        return voice_prompts.prepare(tmp_path / "data", tmp_path / "none", folder)

    with pytest.raises(FileNotFoundError, match="--audio_dir names one with audio"):
        prepare(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty: no .wav, .flac, .ogg, .mp3 file"):
        prepare(tmp_path / "empty")
    write_audio(tmp_path / "few" / "a.wav")
    with pytest.raises(ValueError, match="would be empty: 1 recordings are too few"):
        prepare(tmp_path / "few")
    write_audio(audio / "a x" / "n_0.wav")
    with pytest.raises(ValueError, match="both give the utterance a_x-n_0; rename one"):
        prepare(audio)
    (audio / "a x" / "n_0.wav").unlink()
    (audio / "a x" / "n 0.txt").write_bytes(b"\xff")
    with pytest.raises(ValueError, match="n 0.txt: not UTF-8"):
        prepare(audio)


def test_without_the_packages_the_option_is_named(tmp_path, monkeypatch):
    def fetch(names, workdir):
        raise PackageNotFound("apt-get is not on PATH")

    monkeypatch.setattr(voice_prompts, "fetch_packages", fetch)
    with pytest.raises(FileNotFoundError, match="apt-get is not on PATH. Give --audio_dir DIR"):
        voice_prompts.prepare(tmp_path / "data", tmp_path / "downloads")
