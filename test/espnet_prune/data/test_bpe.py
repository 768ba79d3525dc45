"""Units of SentencePiece: the list that ESPnet takes, and a system that uses them."""

import shutil

import numpy as np
import pytest
import soundfile
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from espnet_prune.bin.asr_greedy_inference import main as greedy
from espnet_prune.data import bpe
from espnet_prune.data.bpe import train_bpe
from espnet_prune.data.data_dir import read_table, write_table

STEMS = "one two three four five six seven eight nine ten walk talk jump play sing".split()
WORDS = [stem + ending for stem in STEMS for ending in ("", "s", "ing", "ed", "er")]


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text"
    rng = np.random.default_rng(0)
    write_table(path, {f"u{n:03d}": " ".join(rng.choice(WORDS, 4)) for n in range(100)})
    return path


@pytest.fixture(scope="module")
def pieces(text, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pieces")
    assert train_bpe(text, folder, 60) == f"{folder}/tokens.txt: 60 pieces"
    return folder


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(st.sampled_from([*WORDS, "gone", "of", "tow"]), max_size=5))
def test_every_text_comes_back_from_the_tokens_of_the_list(pieces, words):
    from espnet2.text.build_tokenizer import build_tokenizer

    tokens = (pieces / "tokens.txt").read_text().splitlines()
    assert tokens[:2] == ["<blank>", "<unk>"] and tokens[-1] == "<sos/eos>"
    assert len(tokens) == len(set(tokens)) == 60  # <s>, </s> are out, <blank>, <sos/eos> in
    tokenizer = build_tokenizer("bpe", str(pieces / "bpe.model"))
    found = tokenizer.text2tokens(" ".join(words))
    assert set(found) <= set(tokens) and tokenizer.tokens2text(found) == " ".join(words)


def test_it_is_trained_again_for_other_texts_only(text, tmp_path):
    assert "earlier" not in train_bpe(text, tmp_path, 60)
    first = (tmp_path / "bpe.model").read_bytes()
    assert train_bpe(text, tmp_path, 60).endswith("60 pieces (of an earlier run)")
    (tmp_path / "tokens.txt").unlink()  # as after an interruption
    assert "earlier" not in train_bpe(text, tmp_path, 60)
    assert (tmp_path / "bpe.model").read_bytes() == first
    assert "earlier" not in train_bpe(text, tmp_path, 55)
    assert len((tmp_path / "tokens.txt").read_text().splitlines()) == 55


def test_numbers_that_do_not_fit_are_named(text, tmp_path):
    with pytest.raises(ValueError, match=r"text: --nbpe 5000: Vocabulary size too high \(5000\)"):
        train_bpe(text, tmp_path, 5000)
    with pytest.raises(ValueError, match="text: --nbpe 5: .*smaller"):
        train_bpe(text, tmp_path, 5)
    assert not (tmp_path / bpe.TOKENS).exists()
    (tmp_path / "text").write_text("u1\nu2\n")
    with pytest.raises(ValueError, match="text: no transcripts in it"):
        train_bpe(tmp_path / "text", tmp_path, 5)


def test_a_system_trains_decodes_packs_and_reloads(text, tmp_path, tiny, monkeypatch):
    from espnet2.bin.asr_inference import Speech2Text
    from espnet2.bin.pack import main as pack
    from espnet2.main_funcs.pack_funcs import unpack
    from espnet2.tasks.asr import ASRTask

    from espnet_prune.plugin.registry import register

    register()
    monkeypatch.chdir(tmp_path)  # ESPnet packs what the recipe names in its directory
    train_bpe(text, "exp/token_list", 60)
    rng = np.random.default_rng(0)
    keys = list(read_table(text))[:4]
    for key in keys:
        soundfile.write(f"{key}.wav", 0.1 * rng.normal(size=24000), 16000)
    write_table("wav.scp", {key: f"{key}.wav" for key in keys})
    write_table("text", {key: read_table(text)[key] for key in keys})
    write_table("shape", dict.fromkeys(keys, 24000))
    data = [
        f"--{part}_data_path_and_name_and_type {name}"
        for part in ("train", "valid")
        for name in ("wav.scp,speech,sound", "text,text,text")
    ]
    ASRTask.main(
        cmd=f"""--frontend pruned_ssl --frontend_conf model={tiny["wavlm"]} --normalize none
        --encoder frame_probe --encoder_conf project_size=8 --model_conf ctc_weight=1.0
        --token_type bpe --bpemodel exp/token_list/bpe.model --use_preprocessor true
        --token_list exp/token_list/tokens.txt {" ".join(data)} --train_shape_file shape
        --valid_shape_file shape --batch_type unsorted --batch_size 2 --max_epoch 1 --optim adam
        --num_workers 0 --use_tensorboard false --use_matplotlib false
        --output_dir exp/asr""".split()
    )
    config = yaml.safe_load((tmp_path / "exp/asr/config.yaml").read_text())
    assert config["token_type"] == "bpe" and len(config["token_list"]) == 60
    said = next(token for token in config["token_list"] if len(token) > 1 and token[0] == "▁")
    model = "exp/asr/valid.loss.best.pth"
    state = torch.load(model, weights_only=True)
    state["ctc.ctc_lo.weight"].zero_()  # a system that always says the same piece
    state["ctc.ctc_lo.bias"].zero_()[config["token_list"].index(said)] = 9.0
    torch.save(state, model)
    trained = ["--asr_train_config", "exp/asr/config.yaml", "--asr_model_file", model]
    greedy([*trained, "--data_path_and_name_and_type", "wav.scp,speech,sound", "--output_dir", "d"])
    assert read_table("d/1best_recog/text") == dict.fromkeys(keys, said[1:])
    packed = ["asr", *trained, "--option", "exp/token_list/bpe.model", "--outpath", "asr.zip"]
    pack(packed)
    shutil.rmtree("exp")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    found = unpack(tmp_path / "asr.zip", "unpacked")
    hears = Speech2Text(**found, ctc_weight=1.0, beam_size=1)
    assert hears(soundfile.read(tmp_path / f"{keys[0]}.wav")[0])[0][0] == said[1:]
