import json

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from espnet_prune.data.data_dir import read_table, write_table
from espnet_prune.data.sir.questions import read_questions
from espnet_prune.speech_llm.compact.excerpts import WORDS, excerpt_items, speak_excerpts
from espnet_prune.speech_llm.compact.features import (
    encode_all,
    encode_together,
    recordings,
    share_inputs,
    write_recordings,
)
from espnet_prune.speech_llm.compact.model import SEPARATOR, encode_pairs
from espnet_prune.structured import load_encoder
from test.espnet_prune.speech_llm.compact.test_excerpts import PASSAGES, Tone
from test.espnet_prune.speech_llm.models import speech
from test.espnet_prune.tiny import saved


def test_data_directory_and_lora_examples(tmp_path, monkeypatch):
    monkeypatch.setattr("espnet_prune.speech_llm.compact.excerpts.Voices", Tone)
    items = excerpt_items(PASSAGES, "train", 0.5, seed=1)
    asked = [item for item in items if item.question]
    assert 0 < len(asked) < len(items)
    data = tmp_path / "train"
    seconds = speak_excerpts(items, ["kal@1.0"], tmp_path, data, nj=1)
    audio = [soundfile.info(path).duration for path in read_table(data / "wav.scp").values()]
    assert seconds == pytest.approx(sum(audio), abs=0.01)
    questions = read_questions(data / "questions")
    assert {n: q.question for n, q in questions.items()} == {i.id: i.question for i in asked}

    feats, draw = {}, np.random.default_rng(0)
    for number, item in enumerate(items):
        feats[item.id] = tmp_path / f"{item.id}.npy"
        np.save(feats[item.id], draw.normal(size=(3 + number, 4)).astype(np.float16))
    table = read_table(data / "text")
    write_table(data / "text", {**table, f"{WORDS}_0": "Not one of these."})
    sizes = {item.id: 3 + number for number, item in enumerate(items)}
    rows, texts = write_recordings(data, feats, sizes, tmp_path / "lora", most=12, seed=1)
    tables = {t: read_table(tmp_path / "lora" / t) for t in ("prompt", "answer", "feats.scp")}
    groups = recordings(sizes, 12, 1)
    assert 1 < len(groups) < len(items)
    assert rows == len(groups) and [g[0] for g in groups] == list(tables["prompt"])
    assert texts == rows + len(asked)
    by_id = {item.id: item for item in items}
    for group in groups:
        facts = [by_id[name] for name in group if by_id[name].question]
        prompts = [f"Question: {item.question} Answer:" for item in facts]
        answers = [item.choices[item.answer] for item in facts]
        transcript = " ".join(by_id[name].transcript for name in group)
        assert tables["prompt"][group[0]].split(SEPARATOR) == [*prompts, "Transcript:"]
        assert tables["answer"][group[0]].split(SEPARATOR) == [*answers, transcript]
        frames = np.load(tables["feats.scp"][group[0]])
        np.testing.assert_array_equal(frames, np.concatenate([np.load(feats[n]) for n in group]))
        shapes = read_table(tmp_path / "lora" / "feats_shape")
        assert shapes[group[0]] == f"{len(frames)},4"


def test_a_question_that_two_excerpts_have_is_left_out(tmp_path):
    np.save(tmp_path / "f.npy", np.zeros((2, 4), np.float16))
    (tmp_path / "text").write_text("a One\ttwo.\nb Three.\nc Four.\nwords_0 no\n")
    rows = {"a": ("Who?", "X"), "b": ("Who?", "Y"), "c": ("Where?", "Z")}
    with (tmp_path / "questions").open("w") as file:
        for name, (question, answer) in rows.items():
            row = {"question": question, "choices": [answer, "none"], "answer": 0}
            file.write(f"{name} {json.dumps(row)}\n")
    feats = dict.fromkeys("abc", tmp_path / "f.npy")
    seed = next(s for s in range(99) if len(recordings(dict.fromkeys("abc", 2), 6, s)) == 1)
    sizes = dict.fromkeys("abc", 2)
    assert write_recordings(tmp_path, feats, sizes, tmp_path / "lora", 6, seed) == (1, 2)
    answer = read_table(tmp_path / "lora" / "answer")["a"]
    assert answer == SEPARATOR.join(["Z", "One two. Three. Four."])  # a tab would part it
    (tmp_path / "text").write_text("words_0 no\n")
    with pytest.raises(ValueError, match="has no excerpt of a passage"):
        write_recordings(tmp_path, feats, sizes, tmp_path / "lora", 6)


@given(st.lists(st.integers(1, 9), max_size=40), st.integers(1, 30), st.integers(0, 3))
def test_recordings_have_all_excerpts_in_order(sizes, most, seed):
    excerpts = {f"w{n}": size for n, size in enumerate(sizes)}
    rows = recordings(excerpts, most, seed)
    assert [excerpt for row in rows for excerpt in row] == list(excerpts)
    for row in rows:
        assert len(row) == 1 or sum(excerpts[w] for w in row) <= most


def test_lengths_of_recordings_are_drawn_evenly():
    sizes = {f"w{n}": 1 for n in range(20_000)}
    lengths = [len(row) for row in recordings(sizes, 10)]
    shares = [lengths.count(n) / len(lengths) for n in range(1, 11)]
    assert max(shares) < 0.12 and min(shares) > 0.08
    assert recordings(sizes, 10, seed=1) != recordings(sizes, 10)


@given(
    lengths=st.lists(st.integers(0, 5000), min_size=1, max_size=12), most=st.integers(5000, 9000)
)
def test_waveforms_share_inputs_in_order_without_touching_each_other(lengths, most):
    inputs = share_inputs(lengths, most)
    assert [piece for shared in inputs for piece, _ in shared] == list(range(len(lengths)))
    for shared in inputs:
        end = -640
        for piece, start in shared:
            assert start % 640 == 0 and start - end >= 640
            end = start + lengths[piece]
        assert end <= most


def test_waveforms_that_share_an_input_get_their_own_frames_of_it(tmp_path):
    encoder = load_encoder(saved("whisper", tmp_path))
    most = encoder.family_of.maximum_samples(encoder.config.base)
    waves = [wave.numpy() for wave in speech(0.3, 0.33, most / 16000, 0.2)]
    found = encode_together(encoder, waves)
    assert [len(row) for row in found] == [8, 9, most // 640, 5]
    joined = np.zeros(9 * 640 + len(waves[1]), np.float32)  # 8 tokens of the first, one of silence
    joined[: len(waves[0])], joined[9 * 640 :] = waves[0], waves[1]
    (frames,) = encode_pairs(encoder, [joined])
    torch.testing.assert_close(found[0], frames[:8], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found[1], frames[9:18], atol=1e-5, rtol=1e-4)
    for piece in (2, 3):
        (alone,) = encode_pairs(encoder, [waves[piece]])
        torch.testing.assert_close(found[piece], alone, atol=1e-5, rtol=1e-4)


def test_features_that_are_no_numbers_are_not_written(tmp_path):
    encoder = load_encoder(saved("whisper", tmp_path / "encoder"))
    soundfile.write(tmp_path / "a.wav", speech(0.5)[0].numpy(), 16000)
    for value in (torch.nan, 1e6):  # the second is beyond float16
        with torch.no_grad():
            encoder.backbone.layer_norm.bias.fill_(value)
        with pytest.raises(ValueError, match="a.wav: the encoder gives NaN, or numbers beyond"):
            encode_all(
                encoder, {"a": str(tmp_path / "a.wav")}, tmp_path / str(value), torch.float32
            )
        assert not list(tmp_path.glob("*/a.npy"))
