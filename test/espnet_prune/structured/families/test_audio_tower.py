"""The encoder of a speech LLM is taken from the whole model, and put back into it."""

import json

import pytest
import torch
import transformers

from espnet_prune.structured import load_encoder
from espnet_prune.structured.one_shot import prune_one_shot
from test.espnet_prune.structured.families.zoo import TOWER, WIDTHS
from test.espnet_prune.tiny import batch

TEXT = {"model_type": "llama", "vocab_size": 40, "num_key_value_heads": 2, **WIDTHS}
MODELS = {
    "Qwen2Audio": {
        "audio_config": {"model_type": "qwen2_audio_encoder", **TOWER},
        "text_config": {**TEXT, "model_type": "qwen2"},
        "audio_token_index": 39,
    },
    "Voxtral": {
        "audio_config": {"model_type": "voxtral_encoder", "max_source_positions": 60, **WIDTHS}
        | {"intermediate_size": 96},  # four frames make a token
        "text_config": TEXT,
        "audio_token_id": 39,
    },
}


@pytest.fixture(params=MODELS)
def model(request):
    torch.manual_seed(0)
    kind = getattr(transformers, f"{request.param}ForConditionalGeneration")
    return kind(kind.config_class(**MODELS[request.param])).eval()


@torch.no_grad()
def test_a_whole_speech_llm_with_a_pruned_encoder(model, tmp_path):
    model.save_pretrained(tmp_path)
    encoder = load_encoder(tmp_path)
    speech, lengths = batch()
    qwen = encoder.family == "qwen2_audio_encoder"
    inputs = encoder.prepare(speech, lengths)
    tokens = [[39] * (20 if qwen else 15) + [1, 2]] * 2
    given = {"input_ids": torch.tensor(tokens), "input_features": inputs.features}
    if qwen:
        short = [39] * (int(lengths[1] + 319) // 320 // 2)
        given["input_ids"] = torch.tensor([tokens[0], [0] * (20 - len(short)) + short + [1, 2]])
        given["attention_mask"] = (given["input_ids"] != 0).long()
        frames = torch.arange(120)[None] < (lengths[:, None] + 159) // 160
        given["feature_attention_mask"] = frames.long()
    wanted = model(**given).logits
    model.model.audio_tower = encoder.backbone
    torch.testing.assert_close(model(**given).logits, wanted, atol=1e-5, rtol=1e-5)
    with torch.enable_grad():
        small, _ = prune_one_shot(encoder, [speech[0], speech[1]], 0.5)
    model.model.audio_tower = small.backbone
    found = model(**given).logits
    assert found.isfinite().all() and not torch.allclose(found, wanted, atol=1e-3)
    hidden = small(speech, lengths).last_hidden_state
    states = small.backbone(inputs.features, attention_mask=inputs.mask).last_hidden_state
    torch.testing.assert_close(states, hidden, atol=1e-5, rtol=1e-5)


def test_a_speech_llm_without_the_configuration_of_its_encoder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "voxtral"}))
    with pytest.raises(ValueError, match="config.json: has no 'audio_config', the configuration"):
        load_encoder(tmp_path)
