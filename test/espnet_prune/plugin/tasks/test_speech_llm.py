"""Both training steps of the compact speech LLM, from features to a loaded model."""

import argparse
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
from espnet_prune.plugin.tasks.speech_llm import (
    SpeechLlmCtcTask,
    SpeechLlmLoraTask,
    TokenIds,
    origin,
)
from espnet_prune.plugin.tasks.speech_llm_model import (
    APART,
    AdapterCtcModel,
    SpeechLoraModel,
    noisy,
    without_blanks,
)
from espnet_prune.speech_llm.compact.adapter import AdapterShape, AudioAdapter
from espnet_prune.speech_llm.compact.model import SEPARATOR, Compact, with_lora
from espnet_prune.speech_llm.compact.pieces import find_pieces
from test.espnet_prune.speech_llm.models import llama, randomize, tokenizer
from test.espnet_prune.tiny import saved

SMALL = AdapterShape(width=8, blocks=1, kernel=3)
WORDS = {"a": "who wins", "b": "the red team wins", "c": "we do not know the team"}


def test_noise_is_measured_by_the_frames_themselves():
    generator = torch.Generator().manual_seed(0)
    frames = 5 * torch.randn(2, 400, 8, generator=generator)
    frames[1, 200:] = 100.0  # beyond the length
    lengths = torch.tensor([400, 200])
    assert torch.equal(noisy(frames, lengths, 0.0), frames)
    torch.manual_seed(1)
    added = (noisy(frames, lengths, 0.2) - frames).std()
    assert float(added) == pytest.approx(1.0, rel=0.05)


def ctc_by_hand(log_p: np.ndarray, target: list[int]) -> float:
    """-log of the sum over all paths, by the forward recursion of Graves et al. (2006)."""
    states = [0]
    for k in target:
        states += [k, 0]
    alpha = np.full(len(states), -np.inf)
    alpha[:2] = log_p[0, states[:2]]
    for row in log_p[1:]:
        new = np.full_like(alpha, -np.inf)
        for s, k in enumerate(states):
            ways = [alpha[s]] + ([alpha[s - 1]] if s else [])
            if s > 1 and k and k != states[s - 2]:
                ways.append(alpha[s - 2])
            new[s] = np.logaddexp.reduce(ways) + row[k]
        alpha = new
    return -np.logaddexp(alpha[-1], alpha[-2])


def test_ctc_loss_and_word_error_rate():
    tokens = tokenizer()
    ids = {w: tokens.convert_tokens_to_ids(w) for w in ("red", "team", "green", " ")}
    torch.manual_seed(0)
    known = [ids["red"], ids["team"], ids[" "]]
    model = AdapterCtcModel(AudioAdapter(6, 4, known, SMALL), tokens).eval()
    feats, lengths = torch.randn(2, 12, 6), torch.tensor([12, 9])
    # The second has a word that the adapter does not know: no target, but a word all the same
    rows = [[ids["red"], ids[" "], ids["red"]], [ids["team"], ids[" "], ids["green"]]]
    loss, stats, weight = model(feats, lengths, torch.tensor(rows), torch.tensor([3, 3]))
    log_p = model.adapter(feats, lengths).log_softmax(-1).detach().numpy()
    expected = ctc_by_hand(log_p[0], [1, 3, 1]) + ctc_by_hand(log_p[1, :9], [2, 3])
    assert float(loss.detach()) == pytest.approx(expected / 5, rel=1e-4)
    assert float(weight) == 4  # words

    path = torch.zeros(2, 12, dtype=torch.long)
    path[0, [2, 4, 6]] = torch.tensor([1, 3, 2])  # "red team" instead of "red red"
    path[1, 3] = 2  # "team" instead of "team green"
    model.adapter.hidden = lambda *_: [torch.nn.functional.one_hot(path, 4).float()]
    model.adapter.norm = model.adapter.output = torch.nn.Identity()
    _, stats, _ = model(feats, lengths, torch.tensor(rows), torch.tensor([3, 3]))
    assert float(stats["wer"]) == pytest.approx(2 / 4)


def test_half_of_the_blocks_learn_letters():
    tokens = tokenizer()
    ids = {w: tokens.convert_tokens_to_ids(w) for w in ("red", "Monday", " ")}
    torch.manual_seed(0)
    shape = AdapterShape(width=8, blocks=2, kernel=3, heads=2)
    adapter = AudioAdapter(6, 4, [ids["red"], ids[" "], ids["Monday"]], shape)
    model = AdapterCtcModel(adapter, tokens, spelling=0.5).eval()
    feats, lengths = torch.randn(2, 14, 6), torch.tensor([14, 6])
    rows = torch.tensor([[ids["red"], ids[" "], ids["Monday"]], [ids["Monday"], ids["Monday"], 0]])
    loss, stats, _ = model(feats, lengths, rows, torch.tensor([3, 2]))
    assert model.spell.out_features == 1 + len("ademnory")
    once = adapter.hidden(feats, lengths)
    assert len(once) == 3
    log_p = model.spell(once[1]).log_softmax(-1).detach().numpy()
    letters = [["ademnory".index(c) + 1 for c in word] for word in ("redmonday", "mondaymonday")]
    # The second has more letters than frames
    by_hand = ctc_by_hand(log_p[0], letters[0]) / 5
    assert float(stats["loss_letters"]) == pytest.approx(by_hand, rel=1e-4)
    assert float(loss) == pytest.approx(float(stats["loss"]) + 0.5 * by_hand, rel=1e-4)
    plain = AdapterCtcModel(adapter, tokens).eval()
    assert float(plain(feats, lengths, rows, torch.tensor([3, 2]))[0]) == pytest.approx(
        float(stats["loss"]), rel=1e-6
    )


def one(feats, lengths, prompt, answer, row: int):
    """Arguments of `SpeechLoraModel` for one text about one recording."""
    frames = feats[row : row + 1, : lengths[row]]
    texts = [(torch.tensor([ids]), torch.tensor([len(ids)])) for ids in (prompt, answer)]
    return frames, lengths[row : row + 1], *texts[0], *texts[1]


@pytest.mark.parametrize("bf16", [False, True])
def test_lora_loss_is_that_of_the_answer_by_hand(bf16):
    tokens = tokenizer()
    torch.manual_seed(0)
    adapter = AudioAdapter(6, 24, range(4, 20), SMALL)
    lm = randomize(with_lora(llama(len(tokens)), rank=2, alpha=4))
    model = SpeechLoraModel(adapter, lm, tokens, noise=0.0, bf16=bf16).train()
    assert not adapter.training
    feats, lengths = torch.randn(2, 9, 6), torch.tensor([9, 4])
    asked = [tokens(t).input_ids for t in (" Transcript:", " Question: who wins? Answer:")]
    said = [tokens(t).input_ids for t in (" the red team", " one")]
    by_hand, tokens_right, number = 0.0, 0, 0
    plain, embed = lm.get_base_model(), lm.get_input_embeddings()
    with torch.no_grad():
        for b in range(2):
            n = int(lengths[b])
            size = lengths[b : b + 1]
            audio = adapter.embed(adapter(feats[b : b + 1, :n], size), size, embed.weight)
            before = torch.tensor(tokens("Passage:").input_ids)
            rest = torch.tensor(asked[b] + said[b])
            row = torch.cat([embed(before), audio[0], embed(rest)])
            log_p = plain(inputs_embeds=row[None]).logits[0].log_softmax(-1)
            for place_in, token in enumerate(said[b]):
                place = len(before) + n + len(asked[b]) + place_in - 1
                by_hand -= float(log_p[place, token]) / len(said[b]) / 2
                tokens_right += int(log_p[place].argmax()) == token
                number += 1
    pad = [pad_sequence([torch.tensor(r) for r in x], True) for x in (asked, said)]
    sizes = [torch.tensor([len(r) for r in x]) for x in (asked, said)]
    loss, stats, weight = model(feats, lengths, pad[0], sizes[0], pad[1], sizes[1])
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
    several = model(feats, lengths, more[0], sizes[0], more[1], sizes[1])[0]
    alone = [
        float(model(*one(feats, lengths, asked[c], said[c], row))[0].detach())
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
    tokens, blank = torch.arange(4000.0)[:, None], torch.arange(4000) % 4 / 3  # two of four
    assert torch.equal(without_blanks(tokens, blank, 0.0), tokens)
    left = without_blanks(tokens, blank, 0.4)[:, 0].long()
    assert torch.equal(left, left.sort().values)
    is_blank = blank[left] > 0.5
    assert int((~is_blank).sum()) == 2000
    assert int(is_blank.sum()) == pytest.approx(0.6 * 2000, rel=0.05)
    assert len(without_blanks(tokens, blank, 1.0)) == 2000


def test_blanks_are_left_out_in_training_only(monkeypatch):
    tokens = tokenizer()
    torch.manual_seed(0)
    adapter = AudioAdapter(6, 24, range(4, 20), SMALL)
    lm = randomize(with_lora(llama(len(tokens)), rank=2, alpha=32))
    with pytest.raises(ValueError, match="drop_blanks is 1.1"):
        SpeechLoraModel(adapter, lm, tokens, drop_blanks=1.1)
    model = SpeechLoraModel(adapter, lm, tokens, drop_blanks=0.8).eval()
    texts = [torch.tensor([tokens(t).input_ids]) for t in (" Transcript:", " one")]
    texts = [x for ids in texts for x in (ids, torch.tensor([ids.shape[1]]))]
    batch = torch.randn(1, 9, 6), torch.tensor([9]), *texts
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
    args = argparse.Namespace(encoder="e", language_model=None, pieces="pieces.json")
    with pytest.raises(ValueError, match="language_model: is required"):
        SpeechLlmCtcTask.build_model(args)
    args.language_model = str(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="none: no such directory"):
        SpeechLlmCtcTask.build_model(args)
    for conf, message in (({"noise": 0.1}, None), ({"loud": 1}, "unknown key 'loud'")):
        args.model_conf = conf
        if message:
            with pytest.raises(ValueError, match=message):
                SpeechLlmCtcTask._model_conf(args, "noise")
        else:
            assert SpeechLlmCtcTask._model_conf(args, "noise") == {"noise": 0.1}


@pytest.fixture(scope="module")
def trainings(tmp_path_factory):
    """Options of both steps on random features: (folder, step) -> list."""
    folder = tmp_path_factory.mktemp("speech_llm")
    tokens = tokenizer()
    saved("whisper", folder / "encoder")
    llama(len(tokens)).save_pretrained(folder / "lm")
    tokens.save_pretrained(folder / "lm")
    (folder / "pieces.json").write_text(find_pieces(tokens, 0, WORDS.values())[0].to_json())
    draw = np.random.default_rng(0)
    for name in WORDS:
        np.save(folder / f"{name}.npy", draw.normal(size=(30, 24)).astype(np.float16))
    write_table(folder / "feats.scp", {name: folder / f"{name}.npy" for name in WORDS})
    write_table(folder / "shape", dict.fromkeys(WORDS, "30,24"))
    write_table(folder / "words", WORDS)
    write_table(folder / "answer", WORDS)
    write_table(folder / "prompt", dict.fromkeys(WORDS, "Transcript:"))
    options = ["--encoder", str(folder / "encoder"), "--language_model", str(folder / "lm")]
    options += ["--pieces", str(folder / "pieces.json"), "--num_workers", "0"]
    options += ["--audio_adapter_conf", "width=8", "--audio_adapter_conf", "blocks=1"]
    options += ["--audio_adapter_conf", "contrast=0.5"]
    options += ["--audio_adapter_conf", "spread=0.8", "--audio_adapter_conf", "heads=2"]
    options += ["--model_conf", "noise=0.1", "--optim_conf", "lr=0.01", "--optim", "adamw"]
    options += ["--resume", "true", "--num_att_plot", "0", "--keep_nbest_models", "1"]
    options += ["--batch_type", "unsorted", "--batch_size", "2", "--max_epoch", "2"]
    for part in ("train", "valid"):
        options += [f"--{part}_shape_file", str(folder / "shape")]
        options += [f"--{part}_data_path_and_name_and_type", f"{folder / 'feats.scp'},feats,npy"]

    def of(step: str) -> list[str]:
        texts = {"ctc": ["words"], "lora": ["prompt", "answer"]}[step]
        criterion = {"ctc": "wer", "lora": "loss"}[step]
        more = ["--best_model_criterion", f"valid,{criterion},min"]
        for part in ("train", "valid"):
            for name in texts:
                more += [f"--{part}_data_path_and_name_and_type", f"{folder / name},{name},text"]
        if step == "ctc":
            more += ["--model_conf", "spelling=0.3"]
        else:
            more += ["--init_param", f"{folder / 'ctc' / 'valid.wer.best.pth'}:adapter:adapter"]
            more += [
                "--lora_rank",
                "2",
                "--lora_alpha",
                "4",
                "--accum_grad",
                "2",
                "--batch_size",
                "1",
            ]
        return [*options, *more]

    return folder, of


def test_both_steps_then_export_then_answers(trainings, capsys):
    folder, of = trainings
    SpeechLlmCtcTask.main(cmd=[*of("ctc"), "--output_dir", str(folder / "ctc")])
    SpeechLlmLoraTask.main(cmd=[*of("lora"), "--output_dir", str(folder / "lora")])
    ctc, lora = (
        torch.load(folder / d / f, weights_only=True)
        for d, f in (("ctc", "valid.wer.best.pth"), ("lora", "valid.loss.best.pth"))
    )
    kept = {name: value for name, value in ctc.items() if name.startswith("adapter.")}
    assert ctc.keys() - kept.keys() == {"spell.weight", "spell.bias"}
    for name, value in kept.items():  # the adapter came along and stayed, but for e_blank
        assert torch.equal(lora[name], value) == (name != "adapter.blank"), name
    assert max(float(v.abs().max()) for n, v in lora.items() if n.startswith("lora")) > 0
    log = yaml.safe_load((folder / "ctc" / "config.yaml").read_text())
    assert log["audio_adapter_conf"] == {
        "width": 8,
        "blocks": 1,
        "spread": 0.8,
        "heads": 2,
        "contrast": 0.5,
    }

    paths = ["--train_dir", str(folder / "lora"), "--output_dir", str(folder / "compact")]
    main(["compact", "export", *paths])
    assert "MB, on" in capsys.readouterr().out
    llm = Compact.from_pretrained(folder / "compact")
    # Through another way: the exported model scores an answer as the training's loss says
    args = argparse.Namespace(**yaml.safe_load((folder / "lora" / "config.yaml").read_text()))
    model = SpeechLlmLoraTask.build_model(args)
    model.load_state_dict(lora)
    frames = torch.from_numpy(np.load(folder / "a.npy")).float()[None]
    question, answer = "who wins?", "the red team"
    lengths = torch.tensor([30])
    ids = [
        torch.tensor([llm.tokenizer(text, add_special_tokens=False).input_ids])
        for text in (f" Question: {question} Answer:", f" {answer}")
    ]
    with torch.no_grad():
        sizes = [torch.tensor([x.shape[1]]) for x in ids]
        loss, _, _ = model.eval()(frames, lengths, ids[0], sizes[0], ids[1], sizes[1])
        logits = llm.adapter(frames, lengths)
        audio = llm.adapter.embed(logits, lengths, llm.lm.get_input_embeddings().weight)[0]
    score = llm.score_choices(llm.prompts([audio], [question]), [[answer]])[0]
    # float16 in the file
    assert math.isclose(float(score), -float(loss.detach()), rel_tol=5e-3)

    plain = ["--train_dir", str(folder / "lora"), "--output_dir", str(folder / "plain")]
    main(["compact", "export", *plain, "--lora", "none"])
    untrained, dense = (
        dict(model.named_parameters())
        for model in (
            Compact.from_pretrained(folder / "plain").lm,
            AutoModelForCausalLM.from_pretrained(folder / "lm"),
        )
    )
    for name, value in dense.items():
        assert torch.equal(untrained[name], value), name
        if "q_proj" in name:
            assert not torch.equal(dict(llm.lm.named_parameters())[name], value)


def test_a_training_that_was_stopped_ends_as_one_that_was_not(trainings):
    folder, of = trainings
    options = [*of("ctc"), "--seed", "3"]
    SpeechLlmCtcTask.main(cmd=[*options, "--output_dir", str(folder / "whole")])
    cut = [*options, "--output_dir", str(folder / "stopped")]
    SpeechLlmCtcTask.main(cmd=[*cut, "--max_epoch", "1"])
    (folder / "stopped" / "latest.pth").unlink()  # as a kill between two writes leaves it
    SpeechLlmCtcTask.main(cmd=cut)
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
