"""The commands around the training of a compact speech LLM."""

import json

import numpy as np
import pytest
import soundfile
import torch

from espnet_prune.cli import main
from espnet_prune.data.data_dir import read_table, write_table
from espnet_prune.data.sir.questions import read_questions
from espnet_prune.evaluate import compact_report as report
from espnet_prune.speech_llm import SpeechLLM
from espnet_prune.speech_llm.compact import passages as passages_module

PASSAGES = [[f"Passage number {n} says {w} and no more." for w in "abc"] for n in "uvwxyz"]


class Tone:
    """Half a second for every sentence; remembers who said it."""

    said: list[tuple[str, str]] = []

    def __init__(self, work=None):
        pass

    def __call__(self, text, voice, speed=1.0):
        self.said.append((text, voice))
        return np.full(8000, 0.1, np.float32)


def test_text_is_asked_for_by_hours(tmp_path, monkeypatch, capsys):
    asked = []

    def write(lm, tokens, passages, path, seed):
        asked.append((passages, path, seed))
        return [["one two", "three"], []]

    monkeypatch.setattr(
        passages_module, "load_language_model", lambda path: (torch.nn.Identity(), None)
    )
    monkeypatch.setattr(passages_module, "write_passages", write)
    options = ["--language_model", "lm", "--output", str(tmp_path / "p"), "--held_out", "4"]
    main(["compact", "text", *options, "--hours", "0.03", "--seed", "7"])
    assert asked == [(4 + 4, tmp_path / "p", 7)]  # 108 s, 30 s each
    assert json.loads(capsys.readouterr().out) == {"passages": 2, "good": 1, "words": 3}
    with pytest.raises(SystemExit):
        main(["compact", "text", *options, "--hours", "0"])
    assert "--hours has to be positive" in capsys.readouterr().err


def test_speech_in_three_parts(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("espnet_prune.speech_llm.compact.excerpts.Voices", Tone)
    Tone.said.clear()
    text = tmp_path / "passages.jsonl"
    text.write_text("".join(json.dumps(p) + "\n" for p in PASSAGES))
    options = ["--passages", str(text), "--output_dir", str(tmp_path / "data")]
    options += ["--tools_dir", str(tmp_path), "--held_out", "4"]
    main(["compact", "speech", *options, "--voices", "kal en", "--test_voices", "slt"])
    for part, numbers in (("valid", "uv"), ("test", "wx"), ("train", "yz")):
        texts = " ".join(read_table(tmp_path / "data" / part / "text").values())
        assert [n for n in "uvwxyz" if f"Passage number {n} " in texts] == list(numbers)
    test_excerpts = read_table(tmp_path / "data" / "test" / "wav.scp")
    assert read_questions(tmp_path / "data" / "test" / "questions").keys() == test_excerpts.keys()
    for sentence, voice in Tone.said:
        if sentence.startswith("Passage number "):
            assert (voice == "slt") == (sentence.split()[2] in "wx")
    assert "test: 2 excerpts" in capsys.readouterr().out

    for more, message in (
        (["--voices", "kal slt"], "--voices and --test_voices both have slt"),
        (["--held_out", "6"], "has no passages for train"),
    ):
        with pytest.raises(SystemExit):
            main(["compact", "speech", *options, *more])
        assert message in capsys.readouterr().err
    for line, message in (("[1]", "line 1: not a list of sentences"), ("[", "line 1: not JSON")):
        text.write_text(line + "\n")
        with pytest.raises(SystemExit):
            main(["compact", "speech", *options])
        assert message in capsys.readouterr().err


@pytest.fixture
def excerpts(tmp_path):
    """A data directory of two excerpts."""
    data = tmp_path / "data"
    data.mkdir()
    draw = np.random.default_rng(0)
    for name, samples in (("u", 8000), ("v", 16000)):
        soundfile.write(data / f"{name}.flac", draw.uniform(-0.3, 0.3, samples), 16000)
    write_table(data / "wav.scp", {name: data / f"{name}.flac" for name in "uv"})
    write_table(data / "text", {"u": "Hm.", "v": "The red team wins."})
    row = {"question": "Who wins?", "choices": ["Red", "Green"], "answer": 0}
    (data / "questions").write_text(f"v {json.dumps(row)}\n")
    return data


class Ear:
    """Right from the transcript, wrong from what is heard and from nothing, right from audio longer
    than 0.7 s."""

    sampling_rate, chunk_samples = 16000, 480000
    answer_lead = " "
    written_audio = SpeechLLM.written_audio

    def hear(self, wave, rate):
        return len(wave) > 0.7 * rate, "the red cat wins", None

    def embed_text(self, text):
        return text != " the red cat wins"

    def empty_audio(self):
        return False

    def prompts(self, audio, questions):
        return audio

    def score_choices(self, prompts, choices):
        right = torch.tensor([0.0, -1.0])
        return [right if prompts[0] else -right]


def test_report_counts_what_is_right(excerpts):
    row = {"question": "Who wins?", "choices": ["Red", "Green"], "answer": 0}
    (excerpts / "questions").write_text("".join(f"{n} {json.dumps(row)}\n" for n in "uv"))
    write_table(excerpts / "text", {"u": "The red cat wins!", "v": "The red team wins."})
    found = report.evaluate(Ear(), excerpts, most=10)
    assert found["excerpts"] == 2
    assert found["wer"]["value"] == pytest.approx(1 / 8)
    values = [found[source]["value"] for source in report.SOURCES]
    assert values == [0.5, 1.0, 0.0, 0.0]
    text = report.table(found, "T")
    assert "| right answers (of four), audio | 50.0% (0.0% to 100.0%) |" in text
    assert report.evaluate(Ear(), excerpts, most=1)["excerpts"] == 1

    write_table(excerpts / "utt2voice", {"u": "joe", "v": "slt"})
    found = report.evaluate(Ear(), excerpts, most=10)
    rates = {voice: rate["value"] for voice, rate in found["wer_by_voice"].items()}
    assert rates == {"joe": 0.0, "slt": pytest.approx(1 / 4)}
    assert "| of these, slt | 25.0% (25.0% to 25.0%) |" in report.table(found, "T")
