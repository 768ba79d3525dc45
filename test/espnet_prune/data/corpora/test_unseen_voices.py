import json

import numpy as np
import pytest
import soundfile

from espnet_prune.data.corpora import unseen_voices
from espnet_prune.data.data_dir import read_dir, validate

pytest.importorskip("hibari")
pytest.importorskip("piper")


def write_items(path, sentences):
    row = {
        "transcript": [{"speaker": "A", "text": sentences}],
        "original_key_sentence": sentences[0],
        "test_question": {"question": "Who?", "choices": ["a", "b"], "correct_answer": "a"},
        "metadata": {"id": "x"},
    }
    path.write_text(json.dumps(row) + "\n")
    return path


SENTENCES = [f"The {n} boats came home late in the cold evening." for n in ("two", "six", "ten")]


def test_each_voice_reads_the_same_sentences(tmp_path):
    items = write_items(tmp_path / "items.jsonl", [*SENTENCES, "Too short."])
    made = unseen_voices.prepare(tmp_path / "data", [items], tmp_path / "downloads", sentences=2)
    assert made == {"test_hibari": 2, "test_joe": 2}
    said = [list(read_dir(tmp_path / "data" / name)["text"].values()) for name in made]
    assert said[0] == said[1] and set(said[0]) < set(SENTENCES)
    for name in made:
        assert not validate(tmp_path / "data" / name)
    audio = tmp_path / "downloads" / "unseen_voices_2" / "joe-0000.flac"
    before = audio.stat().st_mtime_ns
    unseen_voices.prepare(tmp_path / "data", [items], tmp_path / "downloads", sentences=2)
    assert audio.stat().st_mtime_ns == before, "spoken again"
    old = soundfile.read(audio)[0]
    items = write_items(
        tmp_path / "items.jsonl", [text.replace("boats", "cars") for text in SENTENCES]
    )
    unseen_voices.prepare(tmp_path / "data", [items], tmp_path / "downloads", sentences=2)
    new = soundfile.read(audio)[0]
    assert len(old) != len(new) or not np.array_equal(old, new)


def test_too_many_sentences(tmp_path):
    items = write_items(tmp_path / "items.jsonl", SENTENCES)
    with pytest.raises(ValueError, match="--sentences is 4; the items have 3 sentences of 8 to 22"):
        unseen_voices.prepare(tmp_path / "data", [items], tmp_path / "downloads", sentences=4)
