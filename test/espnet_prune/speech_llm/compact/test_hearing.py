import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from espnet_prune.cli import main
from espnet_prune.data.audio import load_speech
from espnet_prune.data.data_dir import read_table
from espnet_prune.speech_llm.compact import hearing
from espnet_prune.speech_llm.compact.adapter import place
from espnet_prune.speech_llm.compact.ear import Ear
from espnet_prune.speech_llm.compact.excerpts import excerpt_items, speak_excerpts
from espnet_prune.speech_llm.compact.hearing import recordings, write_texts
from espnet_prune.speech_llm.compact.model import SEPARATOR
from test.espnet_prune.speech_llm.compact.test_excerpts import PASSAGES, Tone
from test.espnet_prune.speech_llm.models import llama, tokenizer
from test.espnet_prune.whispers import make_teacher, save_ear


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setattr("espnet_prune.speech_llm.compact.excerpts.Voices", Tone)
    items = excerpt_items(PASSAGES, "train", 0.5, seed=1)
    assert 0 < sum(bool(item.question) for item in items) < len(items)
    speak_excerpts(items, ["kal@1.0"], tmp_path, tmp_path / "train", nj=1)
    return tmp_path / "train", {item.id: item for item in items}


def test_recordings_of_excerpts_are_heard_and_asked_about(data, tmp_path, capsys, monkeypatch):
    folder, items = data
    assert read_table(folder / "utt2voice") == dict.fromkeys(items, "kal@1.0")
    whisper, tokens = save_ear(tmp_path / "whisper"), tokenizer()
    llama(len(tokens)).save_pretrained(tmp_path / "lm")
    tokens.save_pretrained(tmp_path / "lm")
    out = tmp_path / "dump"
    options = ["--whisper", str(whisper), "--language_model", str(tmp_path / "lm")]
    options += ["--data_dir", str(folder), "--output_dir", str(out), "--seconds", "8"]
    main(["compact", "hear", *options])
    samples = {name: int(n) for name, n in read_table(folder / "utt2num_samples").items()}
    groups = recordings(samples, 8 * 16000, 0)
    assert 1 < len(groups) < len(items)
    asked = sum(bool(item.question) for item in items.values())
    assert (
        f"{len(groups)} recordings, 0.00 h, {len(groups) + asked} texts" in capsys.readouterr().out
    )
    scp, shapes = read_table(out / "tokens.scp"), read_table(out / "tokens_shape")
    ear, audio = Ear(whisper), read_table(folder / "wav.scp")
    for group in groups:
        wave = np.concatenate([load_speech(audio[name]) for name in group])
        parts = hearing.pieces(wave, 640, ear.most)
        heard = zip(parts, ear.hear(parts), strict=True)
        expected = torch.cat([place(words, tokens, -(-len(part) // 640)) for part, words in heard])
        found = np.load(scp[group[0]])
        assert torch.equal(torch.from_numpy(found), expected) and (found >= 0).any()
        assert int(shapes[group[0]]) == len(found)
    for table in ("prompt", "answer"):
        assert read_table(out / table).keys() == scp.keys()

    # what is there is kept, unless the code is another
    first, *_, last = scp.values()
    before = [open(path, "rb").read() for path in (first, last)]
    np.save(first, np.zeros(1, np.int64))
    main(["compact", "hear", *options])
    assert len(np.load(first)) == 1
    with monkeypatch.context() as patch:
        patch.setattr(hearing, "code_of", lambda *places: "another")
        main(["compact", "hear", *options, "--nj", "2"])
    assert [open(path, "rb").read() for path in (first, last)] == before


def test_what_cannot_be_heard(data, tmp_path, capsys):
    folder, _ = data
    options = ["--language_model", str(tmp_path), "--data_dir", str(folder)]
    options += ["--output_dir", str(tmp_path / "dump")]
    for more, message in (
        (["--whisper", str(tmp_path), "--seconds", "0.01"], "--seconds is 0.01, shorter than"),
        (["--whisper", str(make_teacher(tmp_path / "w"))], "has no alignment_heads"),
    ):
        with pytest.raises(SystemExit):
            main(["compact", "hear", *options, *more])
        assert message in capsys.readouterr().err


def test_texts_of_a_recording(tmp_path):
    text = {"a": "One\ttwo.", "b": "Three.", "c": "Four.", "d": "Five."}
    rows = {"a": ("Who?", "X"), "b": ("Who?", "Y"), "c": ("Where?", "Z")}
    with (tmp_path / "questions").open("w") as file:
        for name, (question, answer) in rows.items():
            row = {"question": question, "choices": [answer, "none"], "answer": 0}
            file.write(f"{name} {json.dumps(row)}\n")
    assert write_texts(tmp_path, {"a": list("abc"), "d": ["d"]}, text, tmp_path) == 3
    # a question that two excerpts have is left out; a tab would part the texts
    answer, prompt = read_table(tmp_path / "answer"), read_table(tmp_path / "prompt")
    assert answer == {"a": SEPARATOR.join(["Z", "One two. Three. Four."]), "d": "Five."}
    assert prompt["a"] == SEPARATOR.join(["Question: Where? Answer:", "Transcript:"])
    (tmp_path / "questions").write_text("")
    assert write_texts(tmp_path, {"a": ["a"]}, text, tmp_path) == 1


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
