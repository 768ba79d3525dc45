import inspect

import pytest
import torch
import torchaudio
from torchaudio.models import hubert_pretrain_model, wav2vec2_model, wavlm_model

from espnet_prune.structured.checkpoints import import_checkpoint
from espnet_prune.structured.checkpoints.torchaudio import convert
from test.espnet_prune.structured.checkpoints.torchaudio_models import (
    assert_same_states,
    build,
    config,
)

SPEECH = torch.randn(2, 4000, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("layout", ["base", "large"])
@pytest.mark.parametrize("wavlm", [False, True])
def test_hidden_states_are_those_of_torchaudio(tmp_path, layout, wavlm):
    arguments = config(layout, wavlm)
    model = build(arguments)
    path = tmp_path / "model.pth"
    torch.save({"state_dict": model.state_dict(), "config": arguments}, path)
    kind, encoder = import_checkpoint(path)
    assert (kind, encoder.family) == ("torchaudio", "wavlm" if wavlm else "wav2vec2")
    assert not encoder.config.do_normalize
    assert encoder.config.base["attention_dropout"] == 0.2
    assert_same_states(encoder, model, SPEECH)
    if not wavlm:  # torchaudio's WavLM takes no lengths
        padded = SPEECH.clone()
        padded[1, 3000:] = 0  # torchaudio leaves this to its caller
        assert_same_states(encoder, model, padded, torch.tensor([4000, 3000]))


def test_tuned_models_head_and_wrapper_are_left_behind(tmp_path):
    arguments = config("large", False, aux_num_out=7)
    model = build(arguments)
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    path = tmp_path / "model.pth"
    torch.save({"state_dict": state, "config": {**arguments, "normalize_waveform": True}}, path)
    encoder = import_checkpoint(path)[1]
    assert encoder.config.do_normalize
    with torch.no_grad():
        normal = torch.nn.functional.layer_norm(SPEECH, SPEECH.shape[-1:])
        logits = model(normal)[0]
        torch.testing.assert_close(
            model.aux(encoder(SPEECH).last_hidden_state), logits, atol=1e-4, rtol=1e-4
        )


def test_hubert_pretraining_model():
    names = set(inspect.signature(hubert_pretrain_model).parameters)
    arguments = {k: v for k, v in config("base", False).items() if k in names}
    rest = {
        "mask_prob": 0.8, "mask_selection": "static", "mask_other": 0.0, "mask_length": 10,
        "no_mask_overlap": False, "mask_min_space": 1, "mask_channel_prob": 0.0,
        "mask_channel_selection": "static", "mask_channel_other": 0.0, "mask_channel_length": 10,
        "no_mask_channel_overlap": False, "mask_channel_min_space": 1, "skip_masked": False,
        "skip_nomask": False, "num_classes": 10, "final_dim": 8, "feature_grad_mult": 0.1,
    }  # fmt: skip
    model = hubert_pretrain_model(**arguments, **rest)
    contents = convert({"state_dict": model.state_dict(), "config": config("base", False)})
    assert contents.family == "hubert"
    assert not any("logit" in name or "mask" in name for name in contents.state)


def bundles():
    kinds = (torchaudio.pipelines.Wav2Vec2Bundle, torchaudio.pipelines.Wav2Vec2ASRBundle)
    return [n for n, b in vars(torchaudio.pipelines).items() if isinstance(b, kinds)]


@pytest.mark.parametrize("name", bundles())
def test_bundles_architectures_are_known(name):
    """What is concluded from a state dict alone is what the bundle itself says."""
    bundle = getattr(torchaudio.pipelines, name)
    wavlm = bundle._model_type == "WavLM"
    with torch.device("meta"):
        model = (wavlm_model if wavlm else wav2vec2_model)(**bundle._params)
    contents = convert(model.state_dict())
    said, base = bundle._params, contents.base
    layers = (
        said["extractor_conv_layer_config"]
        or [(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512, 2, 2)] * 2
    )
    assert list(zip(base["conv_dim"], base["conv_kernel"], base["conv_stride"], strict=True)) == (
        layers
    )
    assert base["conv_bias"] == said["extractor_conv_bias"]
    assert f"{base['feat_extract_norm']}_norm" == said["extractor_mode"]
    assert base["hidden_size"] == said["encoder_embed_dim"]
    assert base["num_hidden_layers"] == said["encoder_num_layers"]
    assert base["num_attention_heads"] == said["encoder_num_heads"]
    assert base["intermediate_size"] == said["encoder_ff_interm_features"]
    assert base["num_conv_pos_embeddings"] == said["encoder_pos_conv_kernel"]
    assert base["num_conv_pos_embedding_groups"] == said["encoder_pos_conv_groups"]
    assert base["do_stable_layer_norm"] == said["encoder_layer_norm_first"]
    assert contents.do_normalize == bundle._normalize_waveform
    assert (contents.family == "wavlm") == wavlm
    if wavlm:
        assert base["num_buckets"] == said["encoder_num_buckets"]
        assert base["max_bucket_distance"] == said["encoder_max_distance"]


@pytest.mark.parametrize("name", ["WAVLM_BASE_PLUS", "HUBERT_BASE", "WAV2VEC2_LARGE"])
def test_full_size_state_dict_alone(tmp_path, name):
    """These layouts and more, and fairseq's: full_size.py."""
    model = build(getattr(torchaudio.pipelines, name)._params)
    torch.save(model.state_dict(), tmp_path / "model.pth")
    encoder = import_checkpoint(tmp_path / "model.pth")[1]
    encoder.config.do_normalize = False  # a bundle does it outside its model
    assert_same_states(encoder, model, SPEECH[:1])


def test_unpublished_architecture_needs_its_configuration():
    state = build(config("base", False)).state_dict()
    with pytest.raises(ValueError, match="a state dict of width 16 .* not one of torchaudio's"):
        convert(state)
    with pytest.raises(ValueError, match="its configuration lacks 'encoder_num_heads'"):
        lacking = {**config("base", False), "encoder_num_heads": None}
        convert({"state_dict": state, "config": lacking})
    other = config("base", False, extractor_conv_layer_config=[(8, 5, 5)] * 7)
    with pytest.raises(ValueError, match="extractor_conv_layer_config does not fit the tensors"):
        convert({"state_dict": state, "config": other})
