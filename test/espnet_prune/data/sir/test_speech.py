import dataclasses
import json

import numpy as np
import pytest
import soundfile

from espnet_prune.data.data_dir import read_table
from espnet_prune.data.sir.items import SirItem
from espnet_prune.data.sir.speech import PAUSE, TURN, cast, speak_item, write_data_dir


def tone(text, voice):
    """A second for each word, at a loudness that tells the voice."""
    return np.full(16000 * len(text.split()), {"a": 0.25, "b": 0.5, "c": 0.125}[voice], np.float32)


@pytest.fixture
def item():
    return SirItem(
        id="meeting_1",
        kind="meeting",
        sentences=(("s1", "one two"), ("s1", "three"), ("s2", "four five six"), ("s1", "seven")),
        key=(1, 3),
        question="What?",
        choices=("x", "y"),
        answer=0,
    )


def test_sentences_are_where_their_times_say(item):
    samples, spans = speak_item(item, tone, ["a", "b", "c"])
    who = cast(item, ["a", "b", "c"])
    assert len(set(who.values())) == 2
    for (speaker, sentence), span in zip(item.sentences, spans, strict=True):
        part = samples[round(span.start * 16000) : round(span.end * 16000)]
        assert np.array_equal(part, tone(sentence, who[speaker]))
    gaps = [b.start - a.end for a, b in zip(spans[:-1], spans[1:], strict=True)]
    assert gaps == pytest.approx([PAUSE, TURN, TURN])
    assert len(samples) / 16000 == pytest.approx(7 + PAUSE + 2 * TURN)


def test_too_few_voices(item, tmp_path):
    with pytest.raises(ValueError, match="meeting_1: 2 speakers, but only 1 voices: give more"):
        cast(item, ["a"])
    # before anything is spoken
    alone = dataclasses.replace(item, id="a", sentences=(("s1", "one"),), key=(0, 1))
    with pytest.raises(ValueError, match="meeting_1: 2 speakers"):
        write_data_dir([alone, item], None, ["a"], tmp_path / "d")


def test_data_directory_and_what_is_kept_of_a_stopped_one(item, tmp_path):
    calls = []

    def speak(text, voice):
        calls.append(text)
        return tone(text, voice)

    write_data_dir([item], speak, ["a", "b"], tmp_path / "d")
    seconds = write_data_dir([item], speak, ["a", "b"], tmp_path / "d")
    assert len(calls) == 4  # nothing was spoken twice
    audio = read_table(tmp_path / "d" / "wav.scp")["meeting_1"]
    samples, rate = soundfile.read(audio)
    assert rate == 16000 and len(samples) / 16000 == pytest.approx(seconds)
    row = json.loads(read_table(tmp_path / "d" / "sentences")["meeting_1"])
    # the key are sentences 1 and 2: "three", a turn, "four five six"
    assert row["key"] == pytest.approx([2 + PAUSE, 2 + PAUSE + 1 + TURN + 3])
    assert read_table(tmp_path / "d" / "text")["meeting_1"] == item.transcript
    assert json.loads(read_table(tmp_path / "d" / "questions")["meeting_1"])["answer"] == 0

    write_data_dir([item], speak, ["b", "c"], tmp_path / "d")  # other voices: spoken again
    assert len(calls) == 8
