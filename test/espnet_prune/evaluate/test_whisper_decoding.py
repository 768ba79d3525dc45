import json
import shutil
from pathlib import Path

import kaldiio
import numpy as np
import pytest
import soundfile
import torch
from transformers import (
    AutoTokenizer,
    Wav2Vec2Config,
    Wav2Vec2Model,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)
from transformers.modeling_outputs import BaseModelOutput

from espnet_prune.api import prune
from espnet_prune.bin.whisper_inference import main
from espnet_prune.data import data_dir as tables
from espnet_prune.data.formatting import format_wav
from espnet_prune.evaluate import whisper_decoding
from espnet_prune.structured import load_encoder
from espnet_prune.structured.whisper_decoder import greedy_decode
from test.espnet_prune.whispers import END, NO_TIMESTAMPS, START, make_teacher


@pytest.fixture(scope="module")
def teacher_dir(tmp_path_factory):
    return make_teacher(tmp_path_factory.mktemp("teacher"))


@pytest.fixture
def data_dir(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    generator = np.random.default_rng(0)
    lines = []
    for i, seconds in enumerate([0.5, 0.1, 1.0, 0.3, 0.7]):
        path = folder / f"{i}.wav"
        time = np.arange(int(16000 * seconds)) / 16000
        tone = 0.4 * np.sin(2 * np.pi * 300 * (i + 1) * time) * generator.random(len(time))
        soundfile.write(path, tone, 16000)
        lines.append(f"utt{i} {path}\n")
    (folder / "wav.scp").write_text("".join(lines))
    return folder


def run(teacher_dir, data_dir, output_dir, *more):
    arguments = ["--teacher_dir", teacher_dir, "--data_dir", data_dir, "--output_dir", output_dir]
    main([str(argument) for argument in [*arguments, *more]])
    return Path(output_dir, "text").read_text()


def reference(teacher_dir, data_dir):
    """The hypotheses by transformers' own features, encoder and generate, one at a time."""
    model = WhisperForConditionalGeneration.from_pretrained(teacher_dir).eval()
    extractor = WhisperFeatureExtractor(chunk_length=1)
    tokenizer = AutoTokenizer.from_pretrained(teacher_dir)
    lines = []
    for line in (data_dir / "wav.scp").read_text().splitlines():
        key, path = line.split()
        speech = soundfile.read(path, dtype="float32")[0]
        features = extractor(speech, sampling_rate=16000, return_tensors="pt").input_features
        with torch.no_grad():
            states = model.model.encoder(features).last_hidden_state
            ids = model.generate(encoder_outputs=BaseModelOutput(states), max_new_tokens=20)
        text = tokenizer.decode(ids[0], skip_special_tokens=True)
        lines.append(f"{key} {' '.join(text.split())}".rstrip())
    return "\n".join(lines) + "\n"


def step_by_step(model, states, prompt, steps):
    """Greedy decoding of one utterance, every step from the start."""
    config, tokens = model.generation_config, list(prompt)
    for step in range(steps):
        with torch.no_grad():
            logits = model(
                encoder_outputs=BaseModelOutput(states[None]),
                decoder_input_ids=torch.tensor([tokens]),
            ).logits[0, -1]
        logits[config.suppress_tokens] = -torch.inf
        if step == 0:
            logits[config.begin_suppress_tokens] = -torch.inf
        tokens.append(int(logits.argmax()))
        if tokens[-1] == END:
            break
    return [token for token in tokens[len(prompt) :] if token != END]


@pytest.mark.parametrize("multilingual", [False, True])
def test_greedy_decoding_step_by_step(teacher_dir, multilingual):
    model = WhisperForConditionalGeneration.from_pretrained(teacher_dir).eval()
    prompt = [START, NO_TIMESTAMPS]
    if multilingual:
        config = model.generation_config
        config.is_multilingual = True
        config.lang_to_id, config.task_to_id = {"<|en|>": 2}, {"transcribe": 5}
        prompt = [START, 2, 5, NO_TIMESTAMPS]
    torch.manual_seed(0)
    states = 3 * torch.randn(12, 50, 16)
    found = greedy_decode(model, states, 20)
    assert found == [step_by_step(model, each, prompt, 20) for each in states]
    lengths = {len(row) for row in found}
    assert len(lengths) > 1 and max(lengths) <= 20, "the case is too plain to show anything"


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_hypotheses_are_those_of_transformers(teacher_dir, data_dir, tmp_path, batch_size):
    text = run(teacher_dir, data_dir, tmp_path / "out", "--batch_size", batch_size)
    assert text == reference(teacher_dir, data_dir)
    assert len({line.split(" ", 1)[1] for line in text.splitlines()}) > 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["decode.json", "text"]


def test_another_encoder_is_put_in_front(teacher_dir, data_dir, tmp_path):
    plain = run(teacher_dir, data_dir, tmp_path / "plain")
    encoder = load_encoder(teacher_dir)
    encoder.save_pretrained(tmp_path / "same")
    assert run(teacher_dir, data_dir, tmp_path / "a", "--encoder", tmp_path / "same") == plain
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn_like(parameter))
    encoder.save_pretrained(tmp_path / "other")
    assert run(teacher_dir, data_dir, tmp_path / "b", "--encoder", tmp_path / "other") != plain


def test_goes_on_where_it_was_stopped(teacher_dir, data_dir, tmp_path, monkeypatch):
    whole = run(teacher_dir, data_dir, tmp_path / "whole")
    seen = []

    def load(value, *, name):
        seen.append(name)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return load_speech(value, name=name)

    load_speech = whisper_decoding.load_speech
    monkeypatch.setattr(whisper_decoding, "load_speech", load)
    with pytest.raises(KeyboardInterrupt):
        run(teacher_dir, data_dir, tmp_path / "out", "--batch_size", 1)
    assert not (tmp_path / "out/text").exists()
    with (tmp_path / "out" / whisper_decoding.PARTIAL).open("a") as file:
        file.write('["utt0", "half a li')  # as a killed process leaves it
    assert run(teacher_dir, data_dir, tmp_path / "out", "--batch_size", 1) == whole
    # The shortest three were done; the fourth was begun twice.
    assert seen == ["utt1", "utt3", "utt0", "utt4", "utt4", "utt2"]
    run(teacher_dir, data_dir, tmp_path / "out")
    assert len(seen) == 6


def test_other_inputs_are_decoded_anew(teacher_dir, data_dir, tmp_path):
    run(teacher_dir, data_dir, tmp_path / "out")
    soundfile.write(data_dir / "0.wav", np.zeros(4000), 16000)
    partial = tmp_path / "out" / whisper_decoding.PARTIAL
    partial.write_text('{"data_dir": "of another run"}\n["utt0", "stale"]\n')
    assert run(teacher_dir, data_dir, tmp_path / "out") == reference(teacher_dir, data_dir)


def silent(data_dir, seconds=0.2, rate=16000, shape=()):
    soundfile.write(data_dir / "0.wav", np.zeros((int(rate * seconds), *shape)), rate)


def not_a_number(data_dir):
    speech = np.zeros(100, np.float32)
    speech[7] = np.nan
    soundfile.write(data_dir / "0.wav", speech, 16000, subtype="FLOAT")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / "wav.scp").unlink(), "wav.scp: no such file"),
        (lambda d: (d / "0.wav").unlink(), "utt0: no such file as"),
        (lambda d: silent(d, 0), "0.wav: is empty"),
        (lambda d: silent(d, rate=8000), "0.wav: has 8000 Hz instead of 16000 Hz"),
        (lambda d: silent(d, shape=(2,)), "0.wav: has 2 channels instead of one"),
        (lambda d: silent(d, 1.1), "17600 samples"),
        (not_a_number, "NaN"),
        (lambda d: (d / "0.wav").write_text("not audio"), "0.wav: not audio"),
    ],
)
def test_bad_data(teacher_dir, data_dir, tmp_path, capsys, damage, message):
    damage(data_dir)
    with pytest.raises(SystemExit) as ended:
        run(teacher_dir, data_dir, tmp_path / "out")
    assert ended.value.code == 1
    error = capsys.readouterr().err.rstrip("\n").split("\n")[-1]
    assert "error: " in error and message in error
    assert not (tmp_path / "out/text").exists()


def test_bad_models(teacher_dir, data_dir, tmp_path, capsys):
    other = tmp_path / "wav2vec2"
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    convolutions = {"conv_dim": (8,) * 7, "num_conv_pos_embedding_groups": 2}
    config = Wav2Vec2Config(**shape, **convolutions, intermediate_size=20)
    Wav2Vec2Model(config).save_pretrained(other)
    wide = make_teacher(tmp_path / "wide", d_model=32)
    for teacher, more, message in [
        (tmp_path / "none", (), "none/config.json: no such file"),
        (other, (), "the model type is 'wav2vec2'"),
        (teacher_dir, ("--encoder", tmp_path / "none"), "none"),
        (teacher_dir, ("--encoder", other), "a wav2vec2 encoder with 16 dimensions does not fit"),
        (teacher_dir, ("--encoder", wide), "a whisper encoder with 32 dimensions does not fit"),
        (teacher_dir, ("--batch_size", 0), "--batch_size is 0"),
    ]:
        with pytest.raises(SystemExit) as ended:
            run(teacher, data_dir, tmp_path / "out", *more)
        assert ended.value.code == 1
        error = capsys.readouterr().err.rstrip("\n").split("\n")[-1]
        assert error.startswith("error: ") and message in error, error


def test_segments_are_not_passed_over(teacher_dir, data_dir, tmp_path, capsys):
    (data_dir / "segments").write_text("u utt0 0.0 0.1\n")
    with pytest.raises(SystemExit):
        run(teacher_dir, data_dir, tmp_path / "out")
    assert "data/segments: whole recordings are read here; cut" in capsys.readouterr().err


@pytest.mark.parametrize("changed", ["code", "generation_config"])
def test_hypotheses_of_other_code_or_settings_are_made_anew(
    teacher_dir, data_dir, tmp_path, monkeypatch, changed
):
    teacher = shutil.copytree(teacher_dir, tmp_path / "teacher")
    before = run(teacher, data_dir, tmp_path / "out")
    calls = []
    monkeypatch.setattr(whisper_decoding, "decode", lambda *_, **__: calls.append(1) or 1.0)
    assert run(teacher, data_dir, tmp_path / "out") == before and not calls
    if changed == "code":
        monkeypatch.setattr(whisper_decoding, "code_of", lambda *places: "another")
    else:
        settings = json.loads((teacher / "generation_config.json").read_text())
        settings["suppress_tokens"] = settings["suppress_tokens"][1:]
        (teacher / "generation_config.json").write_text(json.dumps(settings))
    run(teacher, data_dir, tmp_path / "out")
    assert calls


@pytest.mark.parametrize("kind", ["kaldi", "flac.ark", "wav.ark"])
def test_archives_are_pruned_on_and_decoded_as_files_are(teacher_dir, data_dir, tmp_path, kind):
    """Formatting, pruning in one shot and decoding: the same weights, the same hypotheses."""
    scp = tables.read_table(data_dir / "wav.scp")
    texts = {"text": dict.fromkeys(scp, "text"), "utt2spk": dict.fromkeys(scp, "s")}
    tables.write_dir(tmp_path / "files", {**texts, "wav.scp": scp})
    pairs = {key: soundfile.read(path, dtype="int16")[::-1] for key, path in scp.items()}
    options = {} if kind == "kaldi" else {"write_function": "soundfile"}
    if kind == "flac.ark":
        options["write_kwargs"] = {"format": "flac", "subtype": "PCM_16"}
    kaldiio.save_ark(str(tmp_path / "a.ark"), pairs, scp=str(tmp_path / "scp"), **options)
    tables.write_dir(tmp_path / "ark", {**texts, "wav.scp": tables.read_table(tmp_path / "scp")})
    written = {"files": "wav", "ark": "flac" if kind == "kaldi" else kind}
    found = []
    for name, audio_format in written.items():
        formatted, small = tmp_path / f"{name}_raw", tmp_path / f"{name}_small"
        format_wav(tmp_path / name, formatted, audio_format=audio_format)
        prune(str(teacher_dir), [formatted, tmp_path / name], target=0.4, output_dir=small)
        weights = load_encoder(small).state_dict()
        text = run(teacher_dir, formatted, tmp_path / f"{name}_text", "--encoder", small)
        found.append((text, run(teacher_dir, tmp_path / name, tmp_path / f"{name}_out"), weights))
    files, archived = found
    assert files[:2] == archived[:2] and any(line.split()[1:] for line in files[1].splitlines())
    assert all(torch.equal(value, archived[2][key]) for key, value in files[2].items())
