"""The training of the compact speech LLM, from what was heard to a loaded model."""

import argparse
import copy
import json
import math

import numpy as np
import pytest
import torch
import yaml
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM

from espnet_prune.cli import main
from espnet_prune.data.data_dir import write_table
from espnet_prune.plugin.tasks.speech_llm import SpeechLlmLoraTask, TokenIds, origin
from espnet_prune.plugin.tasks.speech_llm_model import APART, SpeechLoraModel, without_blanks
from espnet_prune.speech_llm.base import first_layer_of
from espnet_prune.speech_llm.compact.adapter import AdapterShape, AudioAdapter
from espnet_prune.speech_llm.compact.model import SEPARATOR, Compact, ask, with_lora
from espnet_prune.tokens import TokenPruner
from test.espnet_prune.speech_llm.models import llama, randomize, tokenizer
from test.espnet_prune.whispers import save_ear

SHAPE = AdapterShape(spread=0.8, contrast=0.5)
WORDS = {"a": "who wins", "b": "the red team wins", "c": "we do not know the team"}


def one(heard, lengths, prompt, answer, row: int):
    """Arguments of `SpeechLoraModel` for one text about one recording."""
    texts = [(torch.tensor([ids]), torch.tensor([len(ids)])) for ids in (prompt, answer)]
    return heard[row : row + 1, : lengths[row]], lengths[row : row + 1], *texts[0], *texts[1]


@pytest.mark.parametrize("bf16", [False, True])
def test_lora_loss_is_that_of_the_answer_by_hand(bf16):
    tokens = tokenizer()
    torch.manual_seed(0)
    adapter = AudioAdapter(24, SHAPE)
    lm = randomize(with_lora(llama(len(tokens)), rank=2, alpha=4))
    model = SpeechLoraModel(adapter, lm, tokens, dtype="bfloat16" if bf16 else "float32").train()
    heard, lengths = torch.randint(-1, 20, (2, 9)), torch.tensor([9, 4])
    asked = [tokens(t).input_ids for t in (" Transcript:", " Question: who wins? Answer:")]
    said = [tokens(t).input_ids for t in (" the red team", " one")]
    by_hand, tokens_right, number = 0.0, 0, 0
    plain, embed = lm.get_base_model(), lm.get_input_embeddings()
    with torch.no_grad():
        for b in range(2):
            n = int(lengths[b])
            audio = adapter.embed(heard[b, :n], embed.weight)
            before = torch.tensor(tokens("Passage:").input_ids)
            rest = torch.tensor(asked[b] + said[b])
            row = torch.cat([embed(before), audio, embed(rest)])
            log_p = plain(inputs_embeds=row[None]).logits[0].log_softmax(-1)
            for place_in, token in enumerate(said[b]):
                place = len(before) + n + len(asked[b]) + place_in - 1
                by_hand -= float(log_p[place, token]) / len(said[b]) / 2
                tokens_right += int(log_p[place].argmax()) == token
                number += 1
    pad = [pad_sequence([torch.tensor(r) for r in x], True) for x in (asked, said)]
    sizes = [torch.tensor([len(r) for r in x]) for x in (asked, said)]
    loss, stats, weight = model(heard, lengths, pad[0], sizes[0], pad[1], sizes[1])
    assert len(said[0]) != len(said[1])  # each text counts alike
    assert float(loss.detach()) == pytest.approx(by_hand, rel=1e-2 if bf16 else 1e-4)
    assert (float(loss.detach()) == pytest.approx(by_hand, rel=1e-6)) == (not bf16)
    assert bf16 or float(stats["acc"]) == pytest.approx(tokens_right / number)
    assert float(weight) == 2

    # Several texts about a recording: as in turn
    both = [torch.tensor([*x[0], APART, *x[1], APART, *x[0]]) for x in (asked, said)]
    more = [pad_sequence([ids, row[1]], True) for ids, row in zip(both, pad, strict=True)]
    sizes = [
        torch.tensor([len(ids), len(x[1])]) for ids, x in zip(both, (asked, said), strict=True)
    ]
    several = model(heard, lengths, more[0], sizes[0], more[1], sizes[1])[0]
    alone = [
        float(model(*one(heard, lengths, asked[c], said[c], row))[0].detach())
        for c, row in ((0, 0), (1, 0), (0, 0), (1, 1))
    ]
    assert float(several.detach()) == pytest.approx(sum(alone) / 4, rel=1e-2 if bf16 else 1e-4)

    loss.sum().backward()
    learn = {name for name, p in model.named_parameters() if p.grad is not None}
    assert learn == {"adapter.blank", *(f"lora.{i}" for i in range(2 * 4 * 2))}
    assert not any(p.requires_grad for n, p in lm.named_parameters() if "lora_" not in n)
    saved_names = {name.partition(".")[0] for name in model.state_dict()}
    assert saved_names == {"adapter", "lora"}  # not the language model


def test_a_share_of_the_blanks_is_left_out():
    torch.manual_seed(0)
    tokens, blank = torch.arange(4000.0)[:, None], torch.arange(4000) % 4 > 1  # two of four
    assert torch.equal(without_blanks(tokens, blank, 0.0), tokens)
    left = without_blanks(tokens, blank, 0.4)[:, 0].long()
    assert torch.equal(left, left.sort().values)
    is_blank = blank[left]
    assert int((~is_blank).sum()) == 2000
    assert int(is_blank.sum()) == pytest.approx(0.6 * 2000, rel=0.05)
    assert len(without_blanks(tokens, blank, 1.0)) == 2000


def test_blanks_are_left_out_in_training_only(monkeypatch):
    tokens = tokenizer()
    torch.manual_seed(0)
    adapter = AudioAdapter(24, SHAPE)
    lm = randomize(with_lora(llama(len(tokens)), rank=2, alpha=32))
    with pytest.raises(ValueError, match="drop_blanks is 1.1"):
        SpeechLoraModel(adapter, lm, tokens, drop_blanks=1.1)
    model = SpeechLoraModel(adapter, lm, tokens, drop_blanks=0.8).eval()
    texts = [torch.tensor([tokens(t).input_ids]) for t in (" Transcript:", " one")]
    texts = [x for ids in texts for x in (ids, torch.tensor([ids.shape[1]]))]
    batch = torch.randint(-1, 20, (1, 9)), torch.tensor([9]), *texts
    shares = []
    monkeypatch.setattr(
        "espnet_prune.plugin.tasks.speech_llm_model.without_blanks",
        lambda heard, blank, share: (shares.append(share), heard[:4])[1],
    )
    whole = model(*batch)[0]
    assert not shares
    losses = {float(model.train()(*batch)[0].detach()) for _ in range(9)}
    assert len(losses) == 1 and losses != {float(whole.detach())}  # four tokens, always
    assert len(set(shares)) == 9 and all(0 <= share < 0.8 for share in shares)


def test_training_reads_what_speechprune_leaves_for_a_question(monkeypatch):
    """The tokens are those that the exported model, with LoRA merged, would be given."""
    tokens = tokenizer()
    torch.manual_seed(0)
    adapter = AudioAdapter(24, SHAPE)
    lm = randomize(with_lora(llama(len(tokens)), rank=2, alpha=32))
    with pytest.raises(ValueError, match="prune is -1"):
        SpeechLoraModel(adapter, lm, tokens, prune=-1)
    model = SpeechLoraModel(adapter, lm, tokens, prune=1.0).eval()
    heard, sizes = torch.randint(-1, 20, (1, 40)), torch.tensor([40])
    asked = [tokens(t).input_ids for t in (" Transcript:", ask("who wins?"))]
    said = [tokens(t).input_ids for t in (" the red team", " one")]
    alone = [list(one(heard, sizes, *texts, 0)) for texts in zip(asked, said, strict=True)]
    both = [torch.tensor([[*x[0], APART, *x[1]]]) for x in (asked, said)]
    both = [heard, sizes, *(x for ids in both for x in (ids, torch.tensor([ids.shape[1]])))]
    whole = [float(model(*texts)[0].detach()) for texts in alone]

    # A recording without a question is read whole
    assert float(model.train()(*alone[0])[0].detach()) == whole[0]
    drawn = iter((0.0, 0.0, 0.4, 0.5))  # prunes, the first question, 55% are left, 40% of them go
    monkeypatch.setattr(
        "espnet_prune.plugin.tasks.speech_llm_model.random_share", lambda: next(drawn)
    )
    loss = float(model(*both)[0].detach())
    assert not list(drawn)

    merged = copy.deepcopy(lm).merge_and_unload()
    embed = merged.get_input_embeddings()
    audio = adapter.embed(heard[0], embed.weight)
    query = embed(torch.tensor(tokens(" who wins?").input_ids))
    prune = TokenPruner("speechprune", rate=0.4, window=22)
    (kept,) = prune(audio[None], query=query[None], first_layer=first_layer_of(merged))
    assert len(kept) == 13
    ids = [torch.tensor(ids) for ids in (tokens("Passage:").input_ids, asked[1] + said[1])]
    row = torch.cat([embed(ids[0]), audio[kept], embed(ids[1])])
    log_p = merged(inputs_embeds=row[None]).logits[0].log_softmax(-1)
    number = len(said[1])
    by_hand = -log_p[-number - 1 : -1].gather(1, ids[1][-number:, None]).mean()
    assert loss == pytest.approx(float(by_hand), rel=1e-4) and loss != pytest.approx(whole[1])


def test_texts_become_ids_as_after_a_blank():
    tokens = tokenizer()
    made = TokenIds(tokens, ends=("answer",))("u", {"answer": "one", "prompt": "Answer:", "x": 1})
    assert tokens.decode(made["answer"]) == " one<|im_end|>"
    assert tokens.decode(made["prompt"]) == " Answer:" and made["x"] == 1
    two = TokenIds(tokens, ends=("answer",))("u", {"answer": f"one{SEPARATOR}team"})["answer"]
    border = two.tolist().index(APART)
    assert tokens.decode(two[:border]) == " one<|im_end|>"
    assert tokens.decode(two[border + 1 :]) == " team<|im_end|>"
    for text in ("", f"one{SEPARATOR}"):
        with pytest.raises(ValueError, match="u: 'prompt' has no text"):
            TokenIds(tokens)("u", {"prompt": text})


def test_wrong_options_are_named(tmp_path):
    args = argparse.Namespace(whisper="w", language_model=None)
    with pytest.raises(ValueError, match="language_model: is required"):
        SpeechLlmLoraTask.build_model(args)
    args.language_model = str(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="none: no such directory"):
        SpeechLlmLoraTask.build_model(args)
    llama(len(tokenizer())).save_pretrained(tmp_path / "none")
    tokenizer().save_pretrained(tmp_path / "none")
    for model_conf, adapter_conf, message in (
        ({"loud": 1}, {}, "model_conf: unknown key 'loud', choose from drop_blanks, prune, dtype"),
        ({}, {"width": 1}, "audio_adapter_conf: .*width"),
        ({}, {"spread": 2.0}, "spread is 2.0"),
    ):
        args.model_conf, args.audio_adapter_conf = model_conf, adapter_conf
        with pytest.raises(ValueError, match=message):
            SpeechLlmLoraTask.build_model(args)


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    """A folder with tokens of random recordings, and the options of a training on them."""
    folder = tmp_path_factory.mktemp("speech_llm")
    tokens = tokenizer()
    llama(len(tokens)).save_pretrained(folder / "lm")
    tokens.save_pretrained(folder / "lm")
    draw = np.random.default_rng(0)
    for name in WORDS:
        np.save(folder / f"{name}.npy", draw.integers(-1, 20, 30))
    write_table(folder / "tokens.scp", {name: folder / f"{name}.npy" for name in WORDS})
    write_table(folder / "shape", dict.fromkeys(WORDS, "30"))
    write_table(folder / "answer", WORDS)
    write_table(folder / "prompt", dict.fromkeys(WORDS, "Transcript:"))
    options = ["--whisper", "whisper", "--language_model", str(folder / "lm")]
    options += ["--audio_adapter_conf", "contrast=0.5", "--audio_adapter_conf", "spread=0.8"]
    options += ["--optim_conf", "lr=0.01", "--optim", "adamw", "--num_workers", "0"]
    options += ["--resume", "true", "--num_att_plot", "0", "--keep_nbest_models", "1"]
    options += ["--batch_type", "unsorted", "--batch_size", "1", "--max_epoch", "2"]
    options += ["--best_model_criterion", "valid,loss,min"]
    options += ["--lora_rank", "2", "--lora_alpha", "4"]
    for part in ("train", "valid"):
        options += [f"--{part}_shape_file", str(folder / "shape")]
        data = f"--{part}_data_path_and_name_and_type"
        options += [data, f"{folder / 'tokens.scp'},tokens,npy"]
        for name in ("prompt", "answer"):
            options += [data, f"{folder / name},{name},text"]
    return folder, options


def test_training_then_export_then_answers(training, capsys):
    folder, options = training
    SpeechLlmLoraTask.main(cmd=[*options, "--output_dir", str(folder / "lora")])
    lora = torch.load(folder / "lora" / "valid.loss.best.pth", weights_only=True)
    assert "adapter.blank" in lora
    assert max(float(v.abs().max()) for n, v in lora.items() if n.startswith("lora")) > 0
    paths = ["--train_dir", str(folder / "lora"), "--output_dir", str(folder / "compact")]
    main(["compact", "export", *paths])
    assert "MB, on whisper and" in capsys.readouterr().out
    save_ear(folder / "whisper")
    llm = Compact.from_pretrained(folder / "compact", whisper=folder / "whisper")
    assert llm.adapter.shape == SHAPE
    # Through another way: the exported model scores an answer as the training's loss says
    args = argparse.Namespace(**yaml.safe_load((folder / "lora" / "config.yaml").read_text()))
    model = SpeechLlmLoraTask.build_model(args)
    model.load_state_dict(lora)
    heard, lengths = torch.from_numpy(np.load(folder / "a.npy"))[None], torch.tensor([30])
    question, answer = "who wins?", "the red team"
    ids = [
        torch.tensor([llm.tokenizer(text, add_special_tokens=False).input_ids])
        for text in (f" Question: {question} Answer:", f" {answer}")
    ]
    with torch.no_grad():
        sizes = [torch.tensor([x.shape[1]]) for x in ids]
        loss, _, _ = model.eval()(heard, lengths, ids[0], sizes[0], ids[1], sizes[1])
        audio = llm.adapter.embed(heard[0], llm.lm.get_input_embeddings().weight)
    score = llm.score_choices(llm.prompts([audio], [question]), [[answer]])[0]
    # float16 in the file
    assert math.isclose(float(score), -float(loss.detach()), rel_tol=5e-3)

    plain = ["--train_dir", str(folder / "lora"), "--output_dir", str(folder / "plain")]
    main(["compact", "export", *plain, "--lora", "none"])
    untrained, dense = (
        dict(model.named_parameters())
        for model in (
            Compact.from_pretrained(folder / "plain", whisper=folder / "whisper").lm,
            AutoModelForCausalLM.from_pretrained(folder / "lm"),
        )
    )
    for name, value in dense.items():
        assert torch.equal(untrained[name], value), name
        if "q_proj" in name:
            assert not torch.equal(dict(llm.lm.named_parameters())[name], value)


def test_a_training_that_was_stopped_ends_as_one_that_was_not(training):
    folder, options = training
    options = [*options, "--seed", "3"]
    SpeechLlmLoraTask.main(cmd=[*options, "--output_dir", str(folder / "whole")])
    cut = [*options, "--output_dir", str(folder / "stopped")]
    SpeechLlmLoraTask.main(cmd=[*cut, "--max_epoch", "1"])
    (folder / "stopped" / "latest.pth").unlink()  # as a kill between two writes leaves it
    SpeechLlmLoraTask.main(cmd=cut)
    a, b = (torch.load(folder / d / "latest.pth", weights_only=True) for d in ("whole", "stopped"))
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_what_cannot_be_exported(tmp_path, capsys):
    with pytest.raises(SystemExit):
        paths = ["--train_dir", str(tmp_path), "--output_dir", str(tmp_path / "out")]
        main(["compact", "export", *paths])
    assert "config.yaml: missing; has the training been run" in capsys.readouterr().err
    (tmp_path / "origin.json").write_text(json.dumps({"model": "smollm2_135m"}))
    assert origin(str(tmp_path)) == "smollm2_135m"
    assert origin("elsewhere") == "elsewhere"
