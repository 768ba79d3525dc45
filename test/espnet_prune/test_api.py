"""`espnet_prune.prune` on a tiny random model and a few seconds of noise."""

import numpy as np
import pytest
import soundfile
import torch

import espnet_prune
from espnet_prune import api
from test.espnet_prune.tiny import dense_model, saved

SHORT = {"method": "l0", "updates": 6, "distill_updates": 4, "device": "cpu"}


def noise(seconds: float = 3.0, rate: int = 16000, seed: int = 0) -> np.ndarray:
    shape = (int(seconds * rate),)
    return np.random.default_rng(seed).normal(0, 0.1, shape).astype(np.float32)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return saved("whisper", tmp_path_factory.mktemp("dense"))


@pytest.fixture()
def folder(tmp_path):
    """Two recordings, one at another rate and one in a folder below, and a text."""
    soundfile.write(tmp_path / "b.wav", noise(1.0, 22050), 22050)
    (tmp_path / "sub").mkdir()
    soundfile.write(tmp_path / "sub" / "a.FLAC", noise(2.0), 16000, format="FLAC")
    for name in ("readme.txt", "._b.wav"):
        (tmp_path / name).write_text("no audio")
    return tmp_path


def test_prunes_to_the_target_and_writes_an_encoder(model, folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "pruned"
    small = espnet_prune.prune(model, folder, 0.5, out, **SHORT)
    dense = espnet_prune.load_encoder(model)
    share = small.plan().parameters() / dense.plan().parameters()
    assert share == pytest.approx(0.5, abs=0.03)
    assert not small.training
    again = espnet_prune.load_encoder(out)
    speech = torch.from_numpy(noise(1.0))[None]
    torch.testing.assert_close(
        again(speech).last_hidden_state, small(speech).last_hidden_state, rtol=0, atol=0
    )
    assert sorted(file.name for file in out.iterdir()) == [
        "config.json",
        "kept.png",
        "model.safetensors",
        "summary.json",
    ]


@pytest.mark.parametrize("layout", ["hubert-base", "wavlm-large"])
def test_other_families(layout, tmp_path):
    model = saved(layout, tmp_path)
    small = espnet_prune.prune(model, [noise(), torch.from_numpy(noise(1.0))], 0.4, **SHORT)
    dense = espnet_prune.load_encoder(model)
    assert small.plan().parameters() / dense.plan().parameters() == pytest.approx(0.6, abs=0.05)


@pytest.mark.parametrize("layout", ["whisper", "hubert-base", "wavlm-large"])
@pytest.mark.parametrize("updates", [None, 3])
def test_one_shot(layout, updates, tmp_path):
    model, audio = saved(layout, tmp_path), [noise(), noise(1.0)]
    small = espnet_prune.prune(model, audio, 0.3, distill_updates=updates, device="cpu")
    dense = espnet_prune.load_encoder(model)
    assert small.plan().parameters() / dense.plan().parameters() == pytest.approx(0.7, abs=0.03)
    trainable = {name for name, p in dense.named_parameters() if p.requires_grad}
    assert all(p.requires_grad == (name in trainable) for name, p in small.named_parameters())
    with pytest.raises(ValueError, match="method is 'l1', choose from one_shot, l0"):
        espnet_prune.prune(model, audio, method="l1")


def test_calibration_has_windows_and_single_utterances(model):
    encoder = espnet_prune.load_encoder(model)
    found = api.calibration_audio(encoder, [noise(0.3, seed=seed) for seed in range(6)])
    lengths = [len(waveform) for waveform in found]
    assert lengths.count(4800) >= 2 and max(lengths) > 4800


def test_a_seed_gives_the_same_encoder_and_leaves_torch_alone(model):
    dense = espnet_prune.load_encoder(model)
    before = {name: value.clone() for name, value in dense.state_dict().items()}
    states = []
    for seed in (3, 3, 4):
        torch.manual_seed(7)
        small = espnet_prune.prune(dense, [noise(), noise(seed=1)], 0.3, seed=seed, **SHORT)
        assert float(torch.rand(())) == pytest.approx(0.5349, abs=1e-4)
        states.append(torch.cat([value.flatten() for value in small.state_dict().values()]))
    assert torch.equal(states[0], states[1])
    assert states[0].shape != states[2].shape or not torch.equal(states[0], states[2])
    for name, value in dense.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(parameter.requires_grad for parameter in dense.backbone.layers.parameters())


def test_distillation_brings_the_hidden_states_nearer(model):
    dense = espnet_prune.load_encoder(model)
    speech = [noise(1.2, seed=seed) for seed in range(4)]
    heard = torch.from_numpy(speech[0])[None]

    def distance(distill_updates):
        options = {**SHORT, "updates": 20, "distill_updates": distill_updates}
        small = espnet_prune.prune(dense, speech, 0.5, **options)
        with torch.no_grad():
            error = small(heard).last_hidden_state - dense(heard).last_hidden_state
        return float(error.square().mean())

    assert distance(60) < 0.9 * distance(0)


def test_data_directory_with_and_without_segments(folder):
    (folder / "wav.scp").write_text(f"one {folder}/b.wav\ntwo {folder}/sub/a.FLAC\n")
    assert [u.path.name for u in api._utterances(folder)] == ["b.wav", "a.FLAC"]
    (folder / "segments").write_text("x one 0.1 0.5\ny two 0.0 1.5\n")
    parts = api._utterances([folder])
    assert [len(part.read(16000)) for part in parts] == [6400, 24000]
    (folder / "segments").write_text("x three 0.1 0.5\n")
    with pytest.raises(ValueError, match="segments: x: wav.scp has no three"):
        api._utterances(folder)
    (folder / "segments").write_text("x one 0.5 0.1\n")
    with pytest.raises(ValueError, match="segments: x: 'one 0.5 0.1' is not 'recording begin end'"):
        api._utterances(folder)
    (folder / "wav.scp").write_text("one sox x.wav |\n")
    with pytest.raises(ValueError, match="wav.scp: one: 'sox x.wav |' is a command"):
        api._utterances(folder)


def test_windows_hold_the_utterances_and_no_more_are_read_than_needed(monkeypatch):
    read = []
    original = api._Utterance.read
    monkeypatch.setattr(
        api._Utterance, "read", lambda self, fs: read.append(self.name) or original(self, fs)
    )
    utterances = api._utterances([noise(1.0, seed=seed) for seed in range(20)])
    windows, _ = api._windows(utterances, 16000, 5, 16000, seed=0)
    assert len(windows) == 5 == len(read) == len(set(read))
    whole, _ = api._windows(utterances[:3], 10 * 16000, 100, 16000, seed=0)
    assert len(whole) == 1 and len(whole[0]) == 3 * 16000 + 2 * 4800
    assert float(whole[0].abs().sum()) == pytest.approx(
        sum(float(np.abs(u.samples).sum()) for u in utterances[:3]), rel=1e-5
    )


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        ([], "the list has no audio"),
        ("empty", "empty: no audio files in it"),
        ("absent.wav", "absent.wav: no such file or folder of audio"),
        ([np.zeros((2, 16000), np.float32)], r"audio\[0\]: has the shape \(2, 16000\)"),
        ([np.zeros(16000, np.int16)], r"audio\[0\]: .* type int16, .* floats in \[-1, 1\]"),
        ([noise(0.05)], r"audio\[0\]: lasts 0.050 s, shorter than 0.1 s"),
        ([np.full(16000, np.nan, np.float32)], r"audio\[0\]: 16000 of 16000 samples are NaN"),
        ([32768 * noise()], r"audio\[0\]: .* samples are beyond \[-1, 1\]"),
        ("stereo.wav", "stereo.wav: has 2 channels instead of one"),
        ("text.wav", "text.wav: not audio that can be read"),
    ],
)
def test_audio_that_cannot_be_used(model, tmp_path, monkeypatch, audio, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.wav").write_text("no audio")
    soundfile.write(tmp_path / "stereo.wav", np.stack([noise(), -noise()], axis=1), 16000)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        espnet_prune.prune(model, audio, **SHORT)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": 1.0}, r"target is 1.0, but has to be in \[0, 1\)"),
        ({"target": 50}, r"target is 50, but has to be in \[0, 1\)"),
        ({"cost": "flops"}, "cost is 'flops', choose from parameters, macs"),
        ({"updates": 0}, "0 updates with gates and 4 after slimming: at least 1 and 0 are needed"),
        ({"target": 0.99}, "target 0.99 cannot be reached, at most 0.[0-9]+ of the cost"),
        ({"target": float("nan")}, r"target is nan, but has to be in \[0, 1\)"),
        ({"output_dir": "."}, "holds mine.txt, which is not part of an encoder directory"),
    ],
)
def test_options_that_cannot_be(model, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(ValueError, match=message):
        espnet_prune.prune(model, [noise()], **{**SHORT, **options})


@pytest.mark.parametrize("method", ["one_shot", "l0"])
def test_weights_that_are_no_numbers(model, method):
    encoder = espnet_prune.load_encoder(model)
    with torch.no_grad():
        encoder.backbone.conv1.weight[0] = torch.inf
    with pytest.raises(ValueError, match="the encoder: tensor backbone.conv1.weight has NaN or in"):
        espnet_prune.prune(encoder, [noise()], method=method)


def test_a_model_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such directory"):
        espnet_prune.prune(tmp_path / "absent", [noise()], **SHORT)


def test_a_language_model_is_no_encoder(tmp_path):
    dense_model("whisper").save_pretrained(tmp_path)
    config = (tmp_path / "config.json").read_text().replace('"whisper"', '"llama"')
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(ValueError, match="model type 'llama' is not supported"):
        espnet_prune.prune(tmp_path, [noise()], **SHORT)
