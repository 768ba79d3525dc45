import json

import pytest
import torch

from espnet_prune.speech_llm import Diva, diva
from espnet_prune.tokens import TokenPruner
from test.espnet_prune.speech_llm.models import RATE, DivaModel, speech


@torch.no_grad()
def test_95_s_are_four_clips_of_448_tokens():
    model = DivaModel(seconds=30)
    llm = Diva(model)
    wave = speech(95)[0]
    audio = llm.hear(wave, RATE).tokens
    assert len(audio) == 4 * 448
    # the last clip by itself, with Whisper's features of its 5 s padded to 30
    features = model.processor.feature_extractor(
        wave[90 * RATE :].numpy(), sampling_rate=RATE, return_tensors="pt"
    )
    hidden = model.whisper_encoder(features.input_features).last_hidden_state
    torch.testing.assert_close(audio[3 * 448 :], model.connector(hidden, "cpu")[0])
    prune = TokenPruner("speechprune", 0.15, window=llm.window, frame_tokens=llm.frame_tokens)
    kept = llm.prompts([audio], ["who wins?"], prune).kept[0]
    assert len(kept) == round(0.85 * 448)
    # the model's own figures are taken where a pruner was given none, and others are kept
    plain = TokenPruner("speechprune", 0.15)
    assert torch.equal(llm.prompts([audio], ["who wins?"], plain).kept[0], kept)
    assert torch.equal(llm.select(plain, [audio], ["who wins?"])[0], kept)
    other = TokenPruner("speechprune", 0.15, window=100)
    assert len(llm.select(other, [audio], ["who wins?"])[0]) == 85


def test_the_question_stands_in_the_system_turn_before_the_audio():
    llm = Diva(DivaModel())
    before, after = llm.layout("who wins?")
    assert llm.tokenizer.decode(before) == (
        "<|begin|><|header|>system<|end_header|>\nwho wins?<|eot_id|><|header|>user<|end_header|>\n"
    )
    assert llm.tokenizer.decode(after) == "<|eot_id|><|header|>assistant<|end_header|>\n"


def test_the_end_of_a_turn_ends_an_answer():
    """A model that says <|eot_id|> at once: nothing follows it."""
    llm = Diva(DivaModel())
    end = llm.tokenizer.convert_tokens_to_ids("<|eot_id|>")
    head = llm.lm.get_output_embeddings()
    with torch.no_grad():
        head.weight.zero_()
        llm.lm.model.norm.weight.zero_()
    prompts = llm.prompts([llm.hear(speech(1)[0], RATE).tokens], ["who wins?"])
    hook = head.register_forward_hook(lambda m, a, out: out + torch.eye(out.shape[-1])[end])
    steps = []
    count = llm.lm.register_forward_pre_hook(lambda *args: steps.append(1))
    assert llm.generate(prompts, max_new_tokens=8) == [""]
    hook.remove(), count.remove()
    assert len(steps) == 1


def own_loop(model, wave, question: str, steps: int) -> tuple[torch.Tensor, list[int]]:
    """The published model's own generation: no mask, no positions, greedy, one token after another.

    Returns: logits of every step, and ids up to the end of the turn.
    """
    features = model.processor.feature_extractor(
        wave.numpy(), sampling_rate=RATE, return_tensors="pt"
    )
    hidden = model.whisper_encoder(features.input_features).last_hidden_state
    virtual = model.connector(hidden, "cpu")[0]
    embed = model.llm_decoder.get_input_embeddings()
    prefix = torch.cat([model.pre_system, model.ids(question), model.post_system])
    inputs = torch.cat([embed(prefix), virtual, embed(model.final_header)])[None]
    logits, cache, ids = [], None, []
    for _ in range(steps):
        out = model.llm_decoder(inputs_embeds=inputs, past_key_values=cache, use_cache=True)
        logits.append(out.logits[0, -1])
        cache, best = out.past_key_values, int(out.logits[0, -1].argmax())
        if best in (int(model.final_header[0]), model.tokenizer.eos_token_id):
            break
        ids.append(best)
        inputs = embed(torch.tensor([[best]]))
    return torch.stack(logits), ids


@torch.no_grad()
def test_keeping_everything_is_the_model_s_own_loop_and_pruning_leaves_no_trace():
    model = DivaModel()
    llm, wave = Diva(model), speech(1.7)[0]
    # Else it ends its turn at once
    model.llm_decoder.get_output_embeddings().weight[llm.stops()["eos_token_id"]] = 0
    before = {name: value.clone() for name, value in model.state_dict().items()}
    logits, ids = own_loop(model, wave, "who wins?", 12)
    assert len(ids) == 12
    audio = llm.hear(wave, RATE).tokens
    pruned = llm.prompts([audio], ["who wins?"], TokenPruner("speechprune", 0.5))
    other = model.llm_decoder(**pruned.inputs).logits[0, -1]
    assert not torch.allclose(other, logits[0], atol=1e-3)
    whole = llm.prompts([audio], ["who wins?"], TokenPruner("none"))
    options = {"return_dict_in_generate": True, "output_logits": True, "do_sample": False}
    found = model.llm_decoder.generate(**whole.inputs, max_new_tokens=12, **options)
    torch.testing.assert_close(torch.cat(found.logits), logits, atol=1e-5, rtol=1e-4)
    assert found.sequences[0].tolist() == ids
    answer = llm.tokenizer.decode(ids, skip_special_tokens=True).strip()
    assert llm.generate(whole, max_new_tokens=12) == [answer]
    after = own_loop(model, wave, "who wins?", 12)
    assert torch.equal(after[0], logits) and after[1] == ids
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


AUTO_MAP = {"AutoConfig": "own.OwnConfig", "AutoModel": "own.Own"}


@pytest.fixture
def with_code(tmp_path, monkeypatch):
    """A model directory that names code, and the calls of what would run it."""
    ran = []
    folder = tmp_path / "model"
    folder.mkdir()
    config = {"model_type": "own", "auto_map": AUTO_MAP}
    (folder / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(diva.AutoModel, "from_pretrained", lambda *a, **k: ran.append((a, k)))
    return folder, ran


def test_code_beside_a_model_is_not_run_unless_asked_for(with_code):
    folder, ran = with_code
    for trust in ({}, {"trust_remote_code": False}, {"trust_remote_code": "false"}):
        with pytest.raises(ValueError, match=f"{folder}: the model comes with code, which would"):
            Diva.from_pretrained(str(folder), **trust)
    assert not ran
    with pytest.raises(AttributeError):  # it goes on to load, here with nothing
        Diva.from_pretrained(str(folder), trust_remote_code=True)
    ((_, options),) = ran
    assert options["trust_remote_code"] is True and "revision" not in options


def test_a_hub_name_needs_the_commit_whose_code_is_run(with_code, monkeypatch):
    _, ran = with_code
    for revision in (None, "main", "0123abc"):
        with pytest.raises(ValueError, match=rf"some/one: revision is {revision!r}, but has to"):
            Diva.from_pretrained("some/one", trust_remote_code=True, revision=revision)
    commit = "0123456789" * 4
    asked = []
    monkeypatch.setattr(diva, "read_model_config", lambda *a: asked.append(a) or {})
    with pytest.raises(AttributeError):
        Diva.from_pretrained("some/one", trust_remote_code=True, revision=commit)
    ((_, options),) = ran
    assert asked == [("some/one", commit)]
    assert options["revision"] == options["code_revision"] == commit


def test_code_of_yet_another_repository_is_not_run(with_code):
    folder, ran = with_code
    config = {"auto_map": {**AUTO_MAP, "AutoModel": "some/other--own.Own"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="config.json: key 'auto_map' names code of another repo"):
        Diva.from_pretrained(str(folder), trust_remote_code=True)
    assert not ran
