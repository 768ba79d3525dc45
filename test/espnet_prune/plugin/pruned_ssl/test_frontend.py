"""The frontend: features, lengths, freezing, and what ESPnet does to its weights."""

import copy
import logging
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from espnet2.torch_utils.initialize import initialize
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import HubertConfig, HubertModel

from espnet_prune.data.corpora import librimix
from espnet_prune.plugin.pruned_ssl import PrunedSSLFrontend
from espnet_prune.structured import load_encoder, slim
from espnet_prune.structured.encoder import read_structure

FAMILIES = ("wav2vec2", "hubert", "wavlm", "whisper")


def batch(*lengths: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise of the given numbers of samples, padded with zeros as ESPnet pads."""
    speech = torch.zeros(len(lengths), max(lengths))
    generator = torch.Generator().manual_seed(0)
    for row, length in zip(speech, lengths, strict=True):
        row[:length] = torch.randn(length, generator=generator)
    return speech, torch.tensor(lengths)


def randomise(module: torch.nn.Module) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()


def states_equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("family", FAMILIES)
def test_features_are_the_hidden_states(tiny, family):
    frontend = PrunedSSLFrontend(tiny[family], fs="16k", layer=1)
    speech, lengths = batch(8000, 4321)
    feats, frames = frontend(speech, lengths)
    out = load_encoder(tiny[family])(speech, lengths)
    assert frontend.output_size() == feats.shape[2] == 24
    assert torch.equal(frames, out.lengths)
    torch.testing.assert_close(feats, out.hidden_states[1][:, : frames.max()])
    last, _ = PrunedSSLFrontend(tiny[family], layer=3)(speech, lengths)
    torch.testing.assert_close(last, out.last_hidden_state[:, : frames.max()])


@pytest.mark.parametrize("family", FAMILIES)
def test_weighted_sum_starts_as_the_mean_and_follows_its_weights(tiny, family):
    frontend = PrunedSSLFrontend(tiny[family])
    speech, lengths = batch(8000, 4321)
    out = load_encoder(tiny[family])(speech, lengths)
    states = [*out.hidden_states[:-1], out.last_hidden_state]
    frames = frontend(speech, lengths)[1].max()
    mean = torch.stack(states).mean(0)[:, :frames]
    torch.testing.assert_close(frontend(speech, lengths)[0], mean)

    with torch.no_grad():
        frontend.layer_weights.copy_(torch.tensor([0.0, 2.0, -1.0, 0.5]).log_softmax(0) + 5)
    w = torch.tensor([0.0, 2.0, -1.0, 0.5]).exp()
    expected = sum(a * b for a, b in zip(w / w.sum(), states, strict=True))[:, :frames]
    torch.testing.assert_close(frontend(speech, lengths)[0], expected)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    family=st.sampled_from(FAMILIES),
    lengths=st.lists(st.integers(400, 16000), min_size=1, max_size=3),
    extra=st.integers(0, 700),
    full_window=st.booleans(),
)
def test_lengths_are_those_of_each_utterance_alone(tiny, family, lengths, extra, full_window):
    frontend = PrunedSSLFrontend(tiny[family], layer=3, full_window=full_window)
    speech, samples = batch(*lengths)
    padded = torch.nn.functional.pad(speech, (0, extra))
    feats, frames = frontend(padded, samples)
    alone = [frontend(*batch(length))[1].item() for length in lengths]
    assert frames.tolist() == alone
    assert feats.shape == (len(lengths), max(alone), 24)
    assert all(abs(n - length / 320) <= 2 for n, length in zip(alone, lengths, strict=True))


def test_padding_does_not_change_an_utterance(tiny):
    for family in ("hubert", "whisper"):  # the others' group norm runs over the padding
        frontend = PrunedSSLFrontend(tiny[family])
        speech, lengths = batch(8000, 5000)
        together, frames = frontend(speech, lengths)
        alone, _ = frontend(speech[1:, :5000], lengths[1:])
        torch.testing.assert_close(together[1:, : frames[1]], alone, atol=1e-5, rtol=1e-4)


def test_loads_a_pruned_model(tiny, tmp_path):
    dense = load_encoder(tiny["hubert"])
    ffn_dim = "encoder.layers.0.ffn_dim"
    masks = {ffn_dim: (torch.arange(dense.plan().size(ffn_dim)) < 4).float()}
    pruned = slim(dense, masks)
    pruned.save_pretrained(tmp_path)
    frontend = PrunedSSLFrontend(str(tmp_path), layer=3)
    speech, lengths = batch(8000, 5000)
    feats, _ = frontend(speech, lengths)
    torch.testing.assert_close(feats, pruned.eval()(speech, lengths).last_hidden_state)
    assert not torch.allclose(feats, PrunedSSLFrontend(tiny["hubert"], layer=3)(speech, lengths)[0])
    assert sum(p.numel() for p in frontend.parameters()) < sum(
        p.numel() for p in dense.parameters()
    )


def test_frozen_encoder_stays_in_evaluation_mode_and_gets_no_gradient(tiny):
    frontend = PrunedSSLFrontend(tiny["wavlm"]).train()
    assert frontend.training
    assert not any(module.training for module in frontend.pretrained.encoder.modules())
    speech, lengths = batch(8000)
    first, _ = frontend(speech, lengths)
    assert torch.equal(first, frontend(speech, lengths)[0])
    first.sum().backward()
    trained = [name for name, p in frontend.named_parameters() if p.grad is not None]
    assert trained == ["layer_weights"]
    assert not PrunedSSLFrontend(tiny["wavlm"], layer=1)(speech, lengths)[0].requires_grad


def test_frozen_encoder_passes_gradients_on_to_an_enhancement_in_front(tiny):
    speech, lengths = batch(8000)
    speech.requires_grad_()
    PrunedSSLFrontend(tiny["whisper"])(speech * 1.0, lengths)[0].square().sum().backward()
    assert speech.grad.abs().sum() > 0


def test_encoder_that_is_not_frozen_is_trained(tiny):
    frontend = PrunedSSLFrontend(tiny["hubert"], freeze=False).train()
    assert all(m.training for m in frontend.pretrained.encoder.modules())
    feats, _ = frontend(*batch(8000))
    feats.square().sum().backward()
    assert all(p.grad is not None for p in frontend.parameters() if p.requires_grad)
    with torch.no_grad():
        assert not frontend(*batch(8000))[0].requires_grad


@pytest.mark.parametrize("shape", [(1, 8000, 1), (1, 8000)])
def test_takes_one_channel(tiny, shape):
    feats, _ = PrunedSSLFrontend(tiny["whisper"])(torch.ones(shape), torch.tensor([8000]))
    assert feats.shape == (1, 25, 24)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fs": "8k"}, r"fs: 8k, but pretrained encoders hear 16000 Hz"),
        ({"fs": 44100}, r"fs: 44100, but"),
        ({"fs": "fast"}, r"cannot read fs: fast"),
        ({"layer": 4}, r"layer: 4, choose 'weighted' or one of 0 .* to 3"),
        ({"layer": -1}, r"layer: -1"),
        ({"layer": "last"}, r"layer: last"),
        ({"layer": True}, r"layer: True"),
        ({"hop_length": 128}, r"hop_length: 128, but one frame is 320 samples"),
        ({"model": "/nowhere/model"}, r"key 'model': /nowhere/model: no such directory"),
    ],
)
def test_bad_arguments(tiny, arguments, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        PrunedSSLFrontend(**{"model": tiny["whisper"], **arguments})


def test_unknown_key_is_an_error_and_known_ones_of_espnet_are_not(tiny):
    with pytest.raises(TypeError, match="n_fft"):
        PrunedSSLFrontend(tiny["whisper"], n_fft=512)
    assert PrunedSSLFrontend(tiny["whisper"], fs=16000, hop_length=320).hop_length == 320


def test_a_frame_is_what_the_model_has_and_labels_of_another_are_refused(tmp_path):
    cnn = {"conv_dim": (8, 8), "conv_kernel": (10, 16), "conv_stride": (10, 16)}
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    small = {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 4}
    HubertModel(HubertConfig(**cnn, **sizes, **small)).save_pretrained(tmp_path)
    assert PrunedSSLFrontend(str(tmp_path)).hop_length == 160
    with pytest.raises(ValueError, match="hop_length: 320, but one frame is 160 samples"):
        PrunedSSLFrontend(str(tmp_path), hop_length=320)
    # of the recipe whose labels are of 20 ms
    recipe = Path(__file__).parents[4] / "egs2/librimix/superb_sd1/conf/train_sd.yaml"
    assert yaml.safe_load(recipe.read_text())["frontend_conf"]["hop_length"] == librimix.FRAME


def test_bad_speech(tiny):
    with pytest.raises(ValueError, match="344 samples, but wav2vec2 needs at least 345"):
        PrunedSSLFrontend(tiny["wav2vec2"])(*batch(8000, 344))
    with pytest.raises(ValueError, match=r"single-channel waveforms \(B, T\), got \(1, 8000, 2\)"):
        PrunedSSLFrontend(tiny["wav2vec2"])(torch.zeros(1, 8000, 2), torch.tensor([8000]))


class Model(torch.nn.Module):
    """As ESPnet's models hold a frontend."""

    def __init__(self, directory: str, **conf):
        super().__init__()
        self.frontend = PrunedSSLFrontend(directory, **conf)
        self.head = torch.nn.Linear(16, 3)


@pytest.mark.parametrize("freeze", [True, False])
def test_checkpoint_holds_the_weights(tiny, tmp_path, freeze):
    model = Model(tiny["hubert"], freeze=freeze)
    randomise(model)
    torch.save(model.state_dict(), tmp_path / "1epoch.pth")
    again = Model(tiny["hubert"], freeze=freeze)
    again.load_state_dict(torch.load(tmp_path / "1epoch.pth"), strict=False)
    assert states_equal(again.state_dict(), model.state_dict())


@pytest.mark.parametrize("freeze", [True, False])
def test_checkpoint_that_lacks_a_weight_is_refused(tiny, freeze):
    model = Model(tiny["hubert"], freeze=freeze)
    state = model.state_dict()
    del state["frontend.pretrained.encoder.backbone.encoder.layers.1.final_layer_norm.bias"]
    with pytest.raises(ValueError, match=r"does not fit .* lacks \S+layers\.1\.final_layer_norm"):
        model.load_state_dict(state, strict=False)


def test_checkpoint_of_another_model_is_refused(tiny):
    model = Model(tiny["hubert"])
    key = "frontend.pretrained.encoder.backbone.encoder.layers.2.final_layer_norm.bias"
    state = dict(model.state_dict())
    state[key] = torch.zeros(5)
    with pytest.raises(ValueError, match=r"misshapen .*final_layer_norm\.bias \(5,\) instead of"):
        model.load_state_dict(state, strict=False)
    state = model.state_dict() | {key.replace("layers.2", "layers.3"): torch.zeros(24)}
    with pytest.raises(ValueError, match=r"unknown \S+layers\.3\.final_layer_norm"):
        model.load_state_dict(state, strict=False)


def test_checkpoint_without_any_frozen_weight_keeps_those_of_the_model(tiny, caplog):
    """ESPnet's save_strategy adapter_only and required_grad_only write such checkpoints."""
    model = Model(tiny["hubert"])
    before = copy.deepcopy(model.frontend.pretrained.state_dict())
    kept = {k: v for k, v in model.state_dict().items() if ".pretrained." not in k}
    with caplog.at_level(logging.WARNING):
        model.load_state_dict(kept, strict=False)
    assert states_equal(model.frontend.pretrained.state_dict(), before)
    assert "no frozen weights in the checkpoint" in caplog.text
    trained = Model(tiny["hubert"], freeze=False)
    with pytest.raises(ValueError, match="lacks"):
        trained.load_state_dict(kept, strict=False)


@pytest.mark.parametrize("init", ["xavier_uniform", "kaiming_normal", "normal"])
def test_init_leaves_the_pretrained_weights(tiny, init):
    for family in ("wavlm", "whisper"):
        model = Model(tiny[family])
        before = copy.deepcopy(model.state_dict())
        initialize(model, init)
        after = model.state_dict()
        assert not torch.equal(after["head.weight"], before["head.weight"])
        pretrained = [k for k in before if k.startswith("frontend.pretrained.")]
        assert pretrained and all(torch.equal(after[k], before[k]) for k in pretrained)


def test_init_leaves_the_pretrained_weights_inside_a_model_of_models(tiny):
    """ESPnet's enh_s2t holds an ASR model, where `reload_pretrained_parameters` is not called."""
    outer = torch.nn.ModuleDict({"s2t_model": Model(tiny["hubert"])})
    before = copy.deepcopy(outer.state_dict())
    initialize(outer, "xavier_normal")
    assert all(torch.equal(v, before[k]) for k, v in outer.state_dict().items() if ".pre" in k)


def test_model_directory_that_is_gone_at_inference(tiny, tmp_path):
    gone = shutil.copytree(tiny["whisper"], tmp_path / "model")
    shutil.rmtree(gone)
    with pytest.raises(FileNotFoundError, match=f"pruned_ssl, key 'model': {gone}"):
        PrunedSSLFrontend(str(gone))


def test_structure_alone_takes_a_checkpoint(tiny, tmp_path):
    gone, structure = str(tmp_path / "gone"), read_structure(tiny["hubert"])
    trained = Model(tiny["hubert"])
    randomise(trained)
    model = Model(gone, structure=structure)
    with pytest.raises(FileNotFoundError, match=f"pruned_ssl, key 'model': {gone}: no such"):
        model.frontend(*batch(8000))
    model.load_state_dict(trained.state_dict(), strict=False)
    assert states_equal(model.state_dict(), trained.state_dict())
    pairs = zip(trained.frontend(*batch(8000)), model.frontend(*batch(8000)), strict=True)
    for wanted, got in pairs:
        assert torch.equal(wanted, got)
    kept = {k: v for k, v in trained.state_dict().items() if ".pretrained." not in k}
    with pytest.raises(FileNotFoundError, match=f"pruned_ssl, key 'model': {gone}: no such"):
        Model(gone, structure=structure).load_state_dict(kept, strict=False)


def test_structure_without_a_checkpoint_reads_the_model(tiny):
    structure = read_structure(tiny["hubert"])
    frontend = PrunedSSLFrontend(tiny["hubert"], structure=structure)
    wanted, _ = PrunedSSLFrontend(tiny["hubert"])(*batch(8000))
    assert torch.equal(frontend(*batch(8000))[0], wanted)
    other = PrunedSSLFrontend(tiny["wavlm"], structure=structure)
    with pytest.raises(ValueError, match="key 'structure': is not that of 'model', .*; remove the"):
        other(*batch(8000))
    bad = {**structure, "famliy": "hubert"}
    with pytest.raises(ValueError, match="key 'structure': has to have the keys family, base, kep"):
        PrunedSSLFrontend(tiny["hubert"], structure=bad)


def test_model_can_be_copied(tiny):
    frontend = PrunedSSLFrontend(tiny["whisper"])
    other = copy.deepcopy(frontend)
    randomise(other)
    other.reload_pretrained_parameters()
    assert states_equal(other.pretrained.state_dict(), frontend.pretrained.state_dict())
