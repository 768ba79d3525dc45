"""Both halves of tiny speech LLMs: a pruned encoder inside, and pruned tokens of it."""

import pytest
import torch

from espnet_prune.speech_llm import AudioLLM, Qwen2Audio, prune_tokens
from espnet_prune.speech_llm.encoders import put_encoder
from espnet_prune.structured import load_encoder
from espnet_prune.structured.baselines import prune_at_random
from espnet_prune.tokens import TokenPruner
from test.espnet_prune.speech_llm.models import RATE, qwen2_audio, speech
from test.espnet_prune.speech_llm.scattered import AUDIO, BY_NAME, PROCESSOR
from test.espnet_prune.tiny import saved

PRUNER = TokenPruner("speechprune", keep=9)
CHAT = [
    {
        "role": "user",
        "content": [{"type": "audio", "audio_url": "x"}, {"type": "text", "text": "who wins?"}],
    }
]


@pytest.fixture
def folders(tmp_path):
    """A model, and its encoder with half of the parameters."""
    model, processor = qwen2_audio(2)
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    small, _ = prune_at_random(load_encoder(tmp_path / "model"), 0.4)
    small.save_pretrained(tmp_path / "pruned")
    return tmp_path / "model", tmp_path / "pruned"


@torch.no_grad()
def test_one_configuration_loads_both_halves(folders):
    model, pruned = map(str, folders)
    (wave,) = speech(1.5)
    small = load_encoder(pruned)
    for kind in (Qwen2Audio, AudioLLM):
        dense, both = kind.from_pretrained(model), kind.from_pretrained(model, encoder=pruned)
        tower = both.lm.model.audio_tower
        assert sum(p.numel() for p in tower.parameters()) == small.num_parameters()
        # its audio tokens are the projected hidden states of the pruned encoder
        hidden = small(wave[None], torch.tensor([len(wave)])).last_hidden_state[0]
        tokens = both.hear(wave, RATE).tokens
        expected = both.lm.model.multi_modal_projector(hidden)[: len(tokens)]
        torch.testing.assert_close(tokens, expected, atol=1e-5, rtol=1e-4)
        assert not torch.allclose(tokens, dense.hear(wave, RATE).tokens, atol=1e-3)
        (kept,) = both.select(PRUNER, [tokens], ["who wins?"])
        assert len(kept) == 9


@torch.no_grad()
def test_one_call_prunes_both_halves_until_it_is_unwrapped(folders):
    model, processor = qwen2_audio(2)
    before = model.model.audio_tower
    text = processor.apply_chat_template(CHAT, add_generation_prompt=True, tokenize=False)
    inputs = processor(text=text, audio=[speech(1.5)[0].numpy()], return_tensors="pt")
    options = {"max_new_tokens": 5, "do_sample": False}
    put = Qwen2Audio.from_pretrained(str(folders[0]), encoder=str(folders[1])).lm
    with prune_tokens(put, processor, PRUNER):
        expected = put.generate(**inputs, **options)
        kept = put.generate.kept
    with prune_tokens(model, processor, PRUNER, encoder=folders[1]):
        assert model.model.audio_tower is not before
        torch.testing.assert_close(model.generate(**inputs, **options), expected)
        torch.testing.assert_close(model.generate.kept, kept)
    assert model.model.audio_tower is before and "generate" not in vars(model)


@torch.no_grad()
def test_both_halves_of_voxtral(tmp_path):
    """Four hidden states of the pruned encoder, projected, are an audio token."""
    tiny = BY_NAME["VoxtralForConditionalGeneration"]
    model, inputs = tiny.model(), tiny.inputs([([96], "who wins?")])
    model.save_pretrained(tmp_path / "model")
    small, _ = prune_at_random(load_encoder(tmp_path / "model"), 0.4)
    small.save_pretrained(tmp_path / "pruned")
    before, ids = model.model.audio_tower, inputs["input_ids"]
    dense = model.generate(**inputs, max_new_tokens=5, do_sample=False)
    heard = []

    def take(module, args, kwargs):
        heard.append(kwargs["inputs_embeds"][0])

    with prune_tokens(model, PROCESSOR, PRUNER, encoder=tmp_path / "pruned") as core:
        put = model.model.audio_tower
        assert sum(p.numel() for p in put.parameters()) == small.num_parameters()
        hook = model.get_decoder().register_forward_pre_hook(take, with_kwargs=True)
        pruned = core.generate(**inputs, max_new_tokens=5, do_sample=False)
        hook.remove()
        (kept,) = core.generate.kept
    assert model.model.audio_tower is before and "generate" not in vars(model)
    hidden = small.backbone(inputs["input_features"]).last_hidden_state
    tokens = model.model.multi_modal_projector(hidden.unflatten(1, (-1, 4)).flatten(2))[0]
    start = int((ids[0] == AUDIO).nonzero()[0])
    assert len(kept) == 9 and pruned.shape == dense.shape
    # the decoder gets the whole prompt, where it is stopped, and then the pruned one
    assert [len(row) for row in heard[:2]] == [ids.shape[1], ids.shape[1] - 12 + 9]
    for row, wanted in zip(heard, (tokens, tokens[kept]), strict=False):
        found = row[start : start + len(wanted)]
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def test_it_is_of_the_model_s_type_and_comes_back(folders):
    model = qwen2_audio(2)[0].to(torch.bfloat16)
    before = model.model.audio_tower
    put_back = put_encoder(model, load_encoder(folders[1]))
    assert {p.dtype for p in model.model.audio_tower.parameters()} == {torch.bfloat16}
    put_back()
    assert model.model.audio_tower is before


def test_encoders_of_other_models(folders, tmp_path):
    model, processor = qwen2_audio(2)
    saved("whisper", tmp_path / "whisper")
    with pytest.raises(ValueError, match="has 0 encoders of the family whisper, but one is repl"):
        put_encoder(model, tmp_path / "whisper")
    other, _ = qwen2_audio(4)
    with pytest.raises(
        ValueError, match="max_source_positions of the encoder is 100, of that .* 200"
    ):
        prune_tokens(other, processor, PRUNER, encoder=folders[1])
    assert "generate" not in vars(other)
