"""The commands around the training of a compact speech LLM."""

import json

import numpy as np
import pytest
import soundfile
import torch
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from espnet_prune.cli import main
from espnet_prune.data.data_dir import read_table, write_table
from espnet_prune.data.sir.questions import read_questions
from espnet_prune.evaluate import compact_report as report
from espnet_prune.speech_llm import SpeechLLM
from espnet_prune.speech_llm.compact import features
from espnet_prune.speech_llm.compact import passages as passages_module
from espnet_prune.speech_llm.compact import words as words_module
from espnet_prune.speech_llm.compact.adapter import AdapterShape, AudioAdapter
from espnet_prune.speech_llm.compact.model import (
    CompactConfig,
    lora_parameters,
    save_compact,
    with_lora,
)
from espnet_prune.speech_llm.compact.pieces import Pieces
from espnet_prune.structured import load_encoder
from test.espnet_prune.speech_llm.models import llama, tokenizer
from test.espnet_prune.tiny import dense_model, saved

PASSAGES = [[f"Passage number {n} says {w} and no more." for w in "abc"] for n in "uvwxyz"]


class Tone:
    """Half a second for every sentence; remembers who said it."""

    said: list[tuple[str, str]] = []

    def __init__(self, work=None):
        pass

    def __call__(self, text, voice, speed=1.0):
        self.said.append((text, voice))
        return np.full(8000, 0.1, np.float32)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """As GPT-2's and SmolLM2's: the blank before a word is a part of its token."""
    pieces = ("\u0120a", "\u0120red", "\u0120green", "\u0120said", "blue", "?")
    tokens = Tokenizer(WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token="?"))
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=tokens)


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


def test_lists_of_the_language_model_s_own_words(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(words_module, "dictionary", lambda tools: {"red", "green", "blue"})
    texts = ["Red, green.", "the whole of it.", "a blue one."]
    monkeypatch.setattr(words_module, "dictionary_texts", lambda tools: texts)
    folder = tmp_path / "lm"
    byte_tokenizer().save_pretrained(folder)
    output = tmp_path / "lists.jsonl"
    options = ["--language_model", str(folder), "--tools_dir", str(tmp_path)]
    options += ["--output", str(output)]
    main(["compact", "words", *options, "--times", "2"])
    said = " ".join(" ".join(json.loads(line)) for line in output.read_text().splitlines())
    words = [word.strip(",.") for word in said.split()]
    lists = ["green", "green", "red", "red"]  # blue is no token
    assert sorted(words) == sorted([*lists, "Red", "green", "a", "blue", "one"])
    assert "2 times; 2 texts, 5 words" in capsys.readouterr().out
    main(["compact", "words", *options, "--times", "1", "--text_times", "0"])
    assert sorted(output.read_text().strip('[]".\n').split(", ")) == ["green", "red"]
    main(["compact", "words", *options, "--times", "0", "--text_times", "0"])
    assert output.read_text() == ""
    capsys.readouterr()
    for more, message in (
        (["--most", "0"], "--most has to be positive"),
        (["--language_model", "none"], "none: no such directory"),
    ):
        with pytest.raises(SystemExit):
            main(["compact", "words", *options, *more])
        assert message in capsys.readouterr().err


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
        assert (tmp_path / "data" / part / "words").is_file()
    test_excerpts = read_table(tmp_path / "data" / "test" / "wav.scp")
    assert read_questions(tmp_path / "data" / "test" / "questions").keys() == test_excerpts.keys()
    for sentence, voice in Tone.said:
        if sentence.startswith("Passage number "):
            assert (voice == "slt") == (sentence.split()[2] in "wx")
    assert "test: 2 excerpts" in capsys.readouterr().out

    lists = tmp_path / "word_lists.jsonl"
    lists.write_text('["apple, river.", "glass stone."]\n')
    before = len(test_excerpts)
    main(["compact", "speech", *options, "--voices", "kal en", "--word_lists", str(lists)])
    table = read_table(tmp_path / "data" / "train" / "text")
    assert table["words_000000"] == "apple, river. glass stone."
    assert "words_000000" not in read_table(tmp_path / "data" / "train" / "questions")
    assert len(read_table(tmp_path / "data" / "test" / "text")) == before

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
    """A data directory of two excerpts that fit the tiny encoder."""
    data = tmp_path / "data"
    data.mkdir()
    draw = np.random.default_rng(0)
    for name, samples in (("u", 8000), ("v", 16000)):
        soundfile.write(data / f"{name}.flac", draw.uniform(-0.3, 0.3, samples), 16000)
    write_table(data / "wav.scp", {name: data / f"{name}.flac" for name in "uv"})
    write_table(data / "text", {"u": "Hm.", "v": "The red team wins."})
    write_table(data / "words", {"u": "", "v": "the red team wins"})
    row = {"question": "Who wins?", "choices": ["Red", "Green"], "answer": 0}
    (data / "questions").write_text(f"v {json.dumps(row)}\n")
    return data


def test_features_are_those_of_the_encoder(excerpts, tmp_path, capsys, monkeypatch):
    encoder, out = saved("whisper", tmp_path / "encoder"), tmp_path / "dump"
    options = ["--data_dir", str(excerpts), "--output_dir", str(out), "--dtype", "float32"]
    main(["compact", "features", *options, "--encoder", str(encoder)])
    assert "2 excerpts, 0.00 h; for LoRA 1 recordings, 2 texts" in capsys.readouterr().out
    wave = torch.from_numpy(soundfile.read(excerpts / "v.flac", dtype="float32")[0])
    with torch.no_grad():
        hidden = load_encoder(encoder)(wave[None]).last_hidden_state[0, :50]
    expected = hidden.view(25, 2, 24).mean(1)
    got = np.load(out / "feats" / "v.npy")
    assert got.dtype == np.float16
    np.testing.assert_allclose(got, expected, atol=5e-3, rtol=2e-3)
    # u has no words: nothing to learn to hear, but something to transcribe
    assert read_table(out / "ctc" / "feats_shape") == {"v": "25,24"}
    assert read_table(out / "ctc" / "words") == {"v": "the red team wins"}
    assert read_table(out / "lora" / "feats_shape") == {"u": "38,24"}

    (out / "feats" / "u.npy").unlink()
    before = (out / "feats" / "v.npy").stat().st_mtime_ns
    main(["compact", "features", *options, "--encoder", str(encoder)])
    assert (out / "feats" / "v.npy").stat().st_mtime_ns == before  # what was there is kept
    assert np.load(out / "feats" / "u.npy").shape == (13, 24)

    with monkeypatch.context() as patch:
        patch.setattr(features, "code_of", lambda *places: "another")
        main(["compact", "features", *options, "--encoder", str(encoder)])
    assert (out / "feats" / "v.npy").stat().st_mtime_ns != before  # but not of other code
    (excerpts / "segments").write_text("v v 0.0 0.5\n")
    with pytest.raises(SystemExit):
        main(["compact", "features", *options, "--encoder", str(encoder)])
    assert "segments: whole recordings are read here; cut them by" in capsys.readouterr().err
    (excerpts / "segments").unlink()

    dense_model("whisper", seed=5).save_pretrained(tmp_path / "other")
    with pytest.raises(SystemExit):
        main(["compact", "features", *options, "--encoder", str(tmp_path / "other")])
    assert "holds features of another encoder: remove it" in capsys.readouterr().err


def test_tokens_of_the_training_text(tmp_path, capsys):
    tokens = tokenizer()
    tokens.save_pretrained(tmp_path / "lm")
    write_table(tmp_path / "words", {"a": "red team red", "b": "red one"})
    options = ["--words", str(tmp_path / "words"), "--output", str(tmp_path / "pieces.json")]
    main(["compact", "tokens", *options, "--language_model", str(tmp_path / "lm")])
    ids = Pieces.load(tmp_path / "pieces.json").token_ids
    assert ids == tuple(sorted(tokens.convert_tokens_to_ids([" ", "red", "team", "one"])))
    # five blanks, red three times, team and one
    assert "4 tokens, 2.00 of them a word; half of them occur 3 times" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["compact", "tokens", *options, "--language_model", str(tmp_path / "none")])
    assert "none: no such directory" in capsys.readouterr().err


def test_a_model_to_train_further_has_to_fit_its_language_model(tmp_path, capsys):
    lm, other = llama(len(tokenizer())), llama(len(tokenizer()))
    other.model.layers = other.model.layers[:1]
    other.config.num_hidden_layers = 1
    for name, model in {"lm": lm, "other": other}.items():
        model.save_pretrained(tmp_path / name)
        tokenizer().save_pretrained(tmp_path / name)
    config = CompactConfig("encoder", "lm", (5, 6), AdapterShape(width=8, blocks=1), lora_rank=2)
    lora = lora_parameters(with_lora(other, config.lora_rank, config.lora_alpha))
    adapter = AudioAdapter(24, 24, config.token_ids, config.shape)
    save_compact(tmp_path / "model", config, adapter, lora)
    options = ["--model", str(tmp_path / "model"), "--pieces", str(tmp_path / "pieces.json")]
    options += ["--weights", str(tmp_path / "start.pth"), "--merges", "7"]
    with pytest.raises(SystemExit):
        main(["compact", "start", *options, "--language_model", str(tmp_path / "lm")])
    assert "model: lora.model.layers.1.self_attn.q_proj.lora_A.weight" in capsys.readouterr().err
    assert not (tmp_path / "start.pth").exists()
    main(["compact", "start", *options, "--language_model", str(tmp_path / "other")])
    pieces = Pieces.load(tmp_path / "pieces.json")
    assert (pieces.token_ids, pieces.merges) == ((5, 6), 7)
    state = torch.load(tmp_path / "start.pth", weights_only=True)
    for number, value in enumerate(lora.values()):
        torch.testing.assert_close(state[f"lora.{number}"], value.half().float())


class Ear:
    """Right from the transcript, wrong from what is heard and from nothing, right from audio longer
    than 0.7 s."""

    sampling_rate, chunk_samples = 16000, 480000
    answer_lead = " "
    written_audio = SpeechLLM.written_audio

    def hear(self, wave, rate):
        return len(wave) > 0.7 * rate, "the red cat wins"

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
