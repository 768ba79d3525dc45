import json

import pytest
import torch
from both_halves import main

from espnet_prune.structured import load_encoder, slim
from test.espnet_prune.evaluate.sir.stand_in import save_compact_llm, save_data_dir
from test.espnet_prune.tiny import random_masks


def test_a_table_of_encoders_and_rates(tmp_path, capsys):
    model, data = save_compact_llm(tmp_path / "model"), save_data_dir(tmp_path / "data")
    dense = load_encoder(model / "whisper")
    masks = random_masks(dense.plan(), torch.Generator().manual_seed(0))
    slim(dense, masks).save_pretrained(tmp_path / "pruned")
    options = ["--data_dir", str(data), "--model", str(model), "--threads", "1"]
    options += ["--encoder", "half", str(tmp_path / "pruned"), "--recordings", "2"]
    main([*options, "--rates", "0.99", "--output", str(tmp_path / "found.json")])
    found = json.loads((tmp_path / "found.json").read_text())["measured"]
    flops = {(row["encoder"], row["tokens"]): row["recordings"][0][1] for row in found}
    all_of, few = ("all", "speechprune 0.99")
    assert list(flops) == [(e, t) for e in ("dense", "half") for t in (all_of, few)]
    for tokens in (all_of, few):
        assert flops["half", tokens] < flops["dense", tokens]
    for encoder in ("dense", "half"):
        assert flops[encoder, few] < flops[encoder, all_of]
    kept = {row["tokens"]: [recording[0] for recording in row["recordings"]] for row in found}
    assert kept[few] == [1, 2] and kept[all_of] == [125, 163]
    printed = capsys.readouterr().out
    assert "| dense   | 144 (all)" in printed and "means of 2 recordings, 1 threads" in printed
    with pytest.raises(SystemExit):
        main([*options, "--rates", "1.0"])
    assert "rate is 1.0, but has to be in [0, 1)" in capsys.readouterr().err
