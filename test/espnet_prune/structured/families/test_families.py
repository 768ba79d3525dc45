import pytest
import torch
from transformers import AutoConfig, WhisperFeatureExtractor

from espnet_prune.structured import load_encoder
from espnet_prune.structured.encoder import zero_mean_unit_variance
from espnet_prune.structured.families import FAMILIES, KINDS
from test.espnet_prune.tiny import LAYOUTS, batch, dense_model, saved


@pytest.mark.parametrize("layout", LAYOUTS)
def test_dense_model_agrees_with_transformers(layout, tmp_path):
    model = dense_model(layout)
    encoder = load_encoder(saved(layout, tmp_path))
    speech, lengths = batch()
    mask = torch.arange(speech.shape[1])[None] < lengths[:, None]
    with torch.no_grad():
        got = encoder(speech, lengths)
        if layout == "whisper":
            extract = WhisperFeatureExtractor(chunk_length=2, feature_size=80)
            waves = [s[:n].numpy() for s, n in zip(speech, lengths, strict=True)]
            features = extract(waves, sampling_rate=16000, return_tensors="pt").input_features
            wanted = model.encoder(features[..., :120], output_hidden_states=True)
        else:
            waves = speech * mask
            if encoder.config.do_normalize:
                waves = zero_mean_unit_variance(waves, lengths) * mask
            wanted = model(waves, attention_mask=mask.long(), output_hidden_states=True)
    assert len(got.hidden_states) == encoder.num_layers + 1 == 4
    for a, b in zip(got.hidden_states, wanted.hidden_states, strict=True):
        assert torch.allclose(a, b, atol=1e-4)
    assert torch.allclose(got.last_hidden_state, wanted.last_hidden_state, atol=1e-4)
    assert got.lengths[0] == got.lengths.max() and got.lengths[1] < got.lengths[0]


@pytest.mark.parametrize("layout", ["whisper", "wavlm-large", "hubert-large"])
def test_an_utterance_gives_the_same_alone_and_in_a_padded_batch(layout, tmp_path):
    encoder = load_encoder(saved(layout, tmp_path))
    speech, lengths = batch()
    with torch.no_grad():
        both = encoder(speech, lengths, full_window=False)
        alone = encoder(speech[1:, : int(lengths[1])], lengths[1:], full_window=False)
    frames = int(both.lengths[1])
    assert alone.lengths.tolist() == [frames]
    for a, b in zip(both.hidden_states, alone.hidden_states, strict=True):
        assert torch.allclose(a[1, :frames], b[0, :frames], atol=1e-4)


#: kinds of sites that only ESPnet's own encoders have
ESPNETS = {"conv", "conv_dim", "cgmlp", "cgmlp_dim"}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_declaration_is_complete(layout, tmp_path):
    plan = load_encoder(saved(layout, tmp_path)).plan()
    kinds = {site.kind for site in plan.sites.values()}
    assert kinds == set(KINDS) - ESPNETS - ({"pos_conv"} if layout == "whisper" else set())
    for site in plan.sites.values():
        assert site.scales or site.kind == "head", f"{site.name}: no place to multiply"
        cut = [t for t in plan.declaration.tensors.values() if site.name in t.cuts.values()]
        children = [s for s in plan.sites.values() if site.name in s.parents]
        assert cut or children, f"{site.name}: cuts nothing"


def test_families_are_named_as_in_transformers():
    assert all(family.config_class.model_type == name for name, family in FAMILIES.items())


@pytest.mark.parametrize("model_type", ["sew-d", "moonshine", "audio-spectrogram-transformer"])
def test_a_model_of_another_family_is_refused_with_those_that_there_are(model_type, tmp_path):
    config = AutoConfig.for_model(model_type)
    config.save_pretrained(tmp_path)
    with pytest.raises(ValueError) as refused:
        load_encoder(tmp_path)
    known = ", ".join(FAMILIES)
    text = f"model type '{model_type}' is not supported, choose from {known}"
    assert str(refused.value) == f"{tmp_path}/config.json: {text}"


LEVELS = (1.0, 0.1, 1e-2, 1e-3, 1e-4, 3e-5, 1e-5, 1e-6, 0.0)


@pytest.mark.parametrize("layout", ["whisper", "hubert-large"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_preparation_does_not_depend_on_autocast(layout, dtype, tmp_path):
    """Whisper's log-mel and the normalised waveform, of quiet speech and silence, too."""
    encoder = load_encoder(saved(layout, tmp_path))
    encoder.config.do_normalize = layout != "whisper"
    speech, lengths = batch()
    for level in LEVELS:
        expected = encoder.prepare(speech * level, lengths).features
        with torch.autocast("cpu", dtype):
            got = encoder.prepare(speech * level, lengths).features
        assert got.dtype == torch.float32 and bool(got.isfinite().all())
        assert torch.equal(got, expected)


def test_silence_gives_finite_states_and_gradients_under_autocast(tmp_path):
    encoder = load_encoder(saved("whisper", tmp_path))
    speech, lengths = batch()
    speech[1] = 0
    with torch.autocast("cpu", torch.float16):
        states = encoder(speech, lengths).last_hidden_state
    assert bool(states.isfinite().all())
    states.float().square().mean().backward()
    gradients = [p.grad for p in encoder.parameters() if p.grad is not None]
    assert gradients and all(bool(g.isfinite().all()) for g in gradients)


def test_waveforms_in_half_precision_are_normalised_in_float32():
    """Longer than float16 counts, and quieter than its squares."""
    torch.manual_seed(0)
    speech = (torch.randn(1, 70_000) * 1e-3).half()
    got = zero_mean_unit_variance(speech, torch.tensor([70_000]))
    expected = zero_mean_unit_variance(speech.float())
    assert got.dtype == torch.float16
    assert torch.allclose(got.float(), expected, atol=2e-3)


def test_the_weight_norm_of_half_precision_weights_is_taken_in_float32():
    torch.manual_seed(0)
    direction, gain = (1e-4 * torch.randn(8, 4, 6)).half(), torch.rand(1, 1, 6).half()
    conv = "encoder.pos_conv_embed.conv"
    state = {f"{conv}.weight_v": direction, f"{conv}.weight_g": gain}
    got = FAMILIES["hubert"].dense_state(state)[f"{conv}.weight"]
    norm = direction.double().square().sum((0, 1), keepdim=True).sqrt()
    expected = direction.double() / norm * gain.double()
    assert torch.allclose(got.double(), expected, rtol=1e-5)
