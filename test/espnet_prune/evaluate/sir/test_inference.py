"""Answers of `Answerer` against the speech LLM's own interface, step by step."""

import numpy as np
import pytest
import soundfile
import torch

from espnet_prune.data.data_dir import read_table, write_table
from espnet_prune.data.sir.questions import read_recordings, shuffled
from espnet_prune.evaluate.sir.conditions import HEARD, NOTHING, TRANSCRIPT, WHOLE, Condition
from espnet_prune.evaluate.sir.inference import Answerer
from espnet_prune.speech_llm import Heard
from espnet_prune.tokens import TokenPruner
from test.espnet_prune.evaluate.sir.stand_in import SECONDS, save_data_dir
from test.espnet_prune.speech_llm.models import RATE, Plain, widths_read

PRUNED = Condition(strategy="speechprune", rate=0.5)


@pytest.fixture(scope="module")
def llm():
    return Plain()


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    return read_recordings(save_data_dir(tmp_path_factory.mktemp("data")))


def pruners(*conditions):
    return [(c, TokenPruner(c.strategy, c.rate, window=60)) for c in conditions]


def test_recordings(recordings):
    assert [r.id for r in recordings] == ["a", "b", "c", "d"]
    assert recordings[1].samples == round(SECONDS["b"] * RATE)
    assert recordings[2].question.answer == 2 and recordings[0].transcript == "what is said here"


@torch.no_grad()
def test_the_pruner_sees_the_question_alone(llm, recordings):
    answerer = Answerer(llm, prompt="{question} one two {choices}", seed=5)
    (answers,) = answerer(recordings[:2], pruners(PRUNED))
    for recording, answer in zip(recordings, answers, strict=False):
        audio = llm.hear(recording.load(RATE), RATE).tokens
        asked = shuffled(recording.question, 5)
        kept = TokenPruner("speechprune", 0.5, window=60)(
            audio[None],
            query=llm.embed_text(recording.question.question)[None],
            first_layer=llm.first_layer(),
        )[0]
        assert answer.kept == tuple(kept.tolist()) and len(kept) == 30
        lines = "\n".join(f"{x}. {text}" for x, text in zip("ABC", asked.choices, strict=True))
        text = f"{recording.question.question} one two {lines}"
        prompts = llm.prompts([audio[kept]], [text])
        (scores,) = llm.score_choices(prompts, [asked.choices])
        np.testing.assert_allclose(answer.scores, scores, atol=1e-3)
        assert tuple(recording.question.choices[n] for n in answer.order) == asked.choices
        assert answer.answer == asked.answer
        assert answer.audio_tokens == len(audio)
        assert answer.seconds == SECONDS[recording.id]


@torch.no_grad()
def test_bounds_do_not_hear_anything(llm, recordings):
    heard, nothing, transcript = Answerer(llm)(recordings[:1], pruners(WHOLE, NOTHING, TRANSCRIPT))
    assert heard[0].kept == tuple(range(125))
    assert nothing[0].audio_tokens == 0 and nothing[0].kept == ()
    question = recordings[0].question
    for answer, tokens in (
        (nothing[0], llm.empty_audio()),
        (transcript[0], llm.embed_text(llm.answer_lead + "what is said here")),
    ):
        (scores,) = llm.score_choices(
            llm.prompts([tokens], [question.question]), [shuffled(question).choices]
        )
        np.testing.assert_allclose(answer.scores, scores, atol=1e-5)


@torch.no_grad()
def test_words_of_the_model_s_own_recogniser(llm, recordings, monkeypatch):
    encode = llm.encode
    for words in ("what is said", ""):

        def first_chunk_says(chunks, words=words):
            first, *others = encode(chunks)
            return [Heard(first.tokens, words), *others]

        monkeypatch.setattr(llm, "encode", first_chunk_says)
        ((heard,),) = Answerer(llm)(recordings[:1], pruners(HEARD))
        tokens = llm.embed_text(llm.answer_lead + words) if words else llm.empty_audio()
        assert heard.audio_tokens == len(tokens)
        (scores,) = llm.score_choices(
            llm.prompts([tokens], [recordings[0].question.question]),
            [shuffled(recordings[0].question).choices],
        )
        np.testing.assert_allclose(heard.scores, scores, atol=1e-5)


@torch.no_grad()
def test_a_recording_is_heard_once_and_its_beginning_read_once(llm, recordings, monkeypatch):
    crop, heard = Condition(strategy="crop", rate=0.5), []
    ((alone,),) = Answerer(llm)(recordings[:1], pruners(crop))
    encode = llm.encode
    monkeypatch.setattr(llm, "encode", lambda chunks: heard.extend(chunks) or encode(chunks))
    with widths_read(llm) as widths:
        (whole,), (first,), _ = Answerer(llm)(recordings[:1], pruners(WHOLE, HEARD, crop))
    assert sum(map(len, heard)) == whole.seconds * RATE and first.kept == tuple(range(30))
    np.testing.assert_allclose(first.scores, alone.scores, atol=1e-4)
    # the beginning comes after the whole; each is followed by a pass of its choices
    before, after = (len(part) for part in llm.layout(recordings[0].question.question))
    assert widths[0] == before + len(whole.kept) + after and widths[2] == after


def test_no_transcript(llm, recordings, tmp_path):
    folder = save_data_dir(tmp_path)
    (folder / "text").unlink()
    with pytest.raises(ValueError, match="a: has no line in text"):
        list(Answerer(llm)(read_recordings(folder)[:1], pruners(TRANSCRIPT)))


def test_a_prompt_without_question(llm):
    with pytest.raises(ValueError, match="has to have {question} in it"):
        Answerer(llm, prompt="Listen!")


def test_recordings_that_cannot_be_used(tmp_path):
    folder = save_data_dir(tmp_path)
    table = read_table(folder / "wav.scp")
    samples, _ = soundfile.read(table["b"], dtype="float32")
    soundfile.write(table["b"], samples[:-1600], RATE)
    with pytest.raises(ValueError, match="b.wav: has 51200 samples, .* says 52800: it ends early"):
        read_recordings(folder)
    assert len(read_recordings(folder, ["a", "c"])) == 2
    with pytest.raises(ValueError, match="x is not there"):
        read_recordings(folder, ["x"])

    write_table(folder / "wav.scp", {**table, "c": folder / "absent.wav"})
    with pytest.raises(FileNotFoundError, match="c: no such file as .*absent.wav"):
        read_recordings(folder, ["c"])

    (folder / "utt2num_samples").unlink()  # then its header still says how long it is
    whole = (folder / "wav" / "d.wav").read_bytes()
    (folder / "wav" / "d.wav").write_bytes(whole[:-3200])
    with pytest.raises(ValueError, match="d.wav: ends early, it has .* bytes of audio"):
        read_recordings(folder, ["d"])

    (folder / "wav" / "d.wav").write_bytes(b"RIFF nothing")
    with pytest.raises(ValueError, match="d.wav: not audio that can be read"):
        read_recordings(folder, ["d"])

    rows = read_table(folder / "questions")
    write_table(folder / "questions", {k: v for k, v in rows.items() if k != "a"})
    with pytest.raises(ValueError, match="questions: a has no question"):
        read_recordings(folder, ["a"])
