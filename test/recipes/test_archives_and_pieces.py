"""Kaldi's archives and SentencePiece through ssl_prune1, from formatting to packing and upload."""

import itertools
import json
import os
import subprocess
from pathlib import Path

import kaldiio
import numpy as np
import pytest
import soundfile
import yaml

from espnet_prune.data import data_dir
from test.espnet_prune.tiny import saved
from test.recipes.running import copy_of, environment_of, run_recipe

#: how the same audio is stored
KINDS = ("wav", "ark", "flac_ark")
TEXTS = [" ".join(words) for words in itertools.permutations(("AND", "BUT", "DOWN"))]
RELOAD = """
import json, sys
import espnet_prune, soundfile, yaml
from espnet2.bin.asr_inference import Speech2Text
from espnet2.main_funcs.pack_funcs import unpack

espnet_prune.register()
pack, folder, config, *files = sys.argv[1:]
recognize = Speech2Text(**unpack(pack, folder), **yaml.safe_load(open(config)))
best = [recognize(soundfile.read(file, dtype="float32")[0])[0] for file in files]
print(json.dumps([[text, float(hypothesis.score)] for text, *_, hypothesis in best]))
"""


def write_set(folder: Path, kind: str, seed: int, count: int) -> None:
    """A data directory whose audio and texts do not depend on the kind."""
    generator = np.random.default_rng(seed)
    audio, store = {}, folder.parent / f"{folder.name}_audio"
    for n in range(count):
        time = np.arange(int(16000 * generator.uniform(1.0, 1.6)))
        speech = 0.2 * np.sin(time * generator.uniform(0.05, 0.5))
        speech += 0.05 * generator.normal(size=len(time))
        audio[f"s{n % 2}-{n}"] = (16000, (32767 * speech).astype(np.int16))
    store.mkdir(parents=True)
    if kind == "wav":
        scp = {name: store / f"{name}.wav" for name in audio}
        for name, (rate, samples) in audio.items():
            soundfile.write(scp[name], samples, rate)
    else:
        options = {}
        if kind == "flac_ark":
            options = {"write_function": "soundfile", "write_kwargs": {"format": "flac"}}
        table = store / "scp"
        kaldiio.save_ark(str(store / "all.ark"), audio, scp=str(table), **options)
        scp = data_dir.read_table(table)
        assert all(".ark:" in place for place in scp.values())
    tables = {"wav.scp": {name: str(path) for name, path in scp.items()}}
    tables["utt2spk"] = {name: name.partition("-")[0] for name in audio}
    tables["text"] = dict(zip(audio, itertools.cycle(TEXTS), strict=False))
    data_dir.write_dir(folder, tables)


def scores_of(decoded: Path) -> dict[str, float]:
    """The score of every utterance, from all jobs that decoded."""
    tables = [data_dir.read_table(table) for table in decoded.glob("logdir/*/1best_recog/score")]
    scores = {name: score for table in tables for name, score in table.items()}
    return {
        name: float(scores[name].removeprefix("tensor(").rstrip(")")) for name in sorted(scores)
    }


@pytest.mark.recipe
@pytest.mark.timeout(1500)
def test_archives_give_the_figures_of_their_wavs_and_pieces_are_packed(tmp_path, warm_python):
    recipe = copy_of("librispeech/ssl_prune1", tmp_path)
    for kind in KINDS:
        write_set(recipe / f"data/train_{kind}", kind, seed=0, count=6)
        write_set(recipe / f"data/test_{kind}", kind, seed=1, count=3)
    write_set(recipe / "data/dev", "ark", seed=2, count=2)
    hub = tmp_path / "hub"  # stands for a hub: `hf upload REPOSITORY DIRECTORY .`
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/hf").write_text(
        f'#!/bin/sh\n[ "$1 $4" = "upload ." ] && mkdir -p "{hub}/$2" && cp -r "$3/." "{hub}/$2"\n'
    )
    (tmp_path / "bin/hf").chmod(0o755)

    def run(kind: str, *options: str) -> Path:
        """All stages from the second on, pruned and trained on one kind; the experiment."""
        given = ["--debug", "true", "--stage", "2", "--method", "one_shot", "--prune_tag", kind]
        given += ["--teacher", str(saved("wavlm-base", tmp_path / "tiny")), "--target", "0.5"]
        given += ["--train_set", f"train_{kind}", "--valid_set", "dev", "--nj", "1", *warm_python]
        given += ["--asr_train_set", f"train_{kind}", "--asr_valid_set", "dev"]
        given += ["--test_sets", " ".join(f"test_{kind}" for kind in KINDS)]
        given += ["--token_type", "bpe", "--nbpe", "14", *options]
        run_recipe(recipe, *given, PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}")
        return recipe / f"exp_debug/ssl_prune_{kind}"

    exp = run("ark", "--skip_upload", "false", "--hf_repo", "me/small", "--license", "mit")
    pruned = (exp / "slim/model.safetensors").read_bytes()
    for kind in ("wav", "flac_ark"):
        assert (run(kind, "--stop_stage", "5") / "slim/model.safetensors").read_bytes() == pruned

    # What is heard
    raw = recipe / "dump_debug/raw"
    lengths = {(raw / f"test_{kind}/utt2num_samples").read_text() for kind in KINDS}
    assert len(lengths) == 1
    (asr,) = exp.glob("asr_*bpe14")
    decoded = asr / "decode_ctc"
    for name in ("text", "scores.json"):
        texts = [(decoded / f"test_{kind}" / name).read_text() for kind in KINDS]
        texts = [text.replace(f"test_{kind}/", "") for text, kind in zip(texts, KINDS, strict=True)]
        assert len(set(texts)) == 1, name
    scores = [scores_of(decoded / f"test_{kind}") for kind in KINDS]
    assert len(scores[0]) == 3 and scores[0] == scores[1] == scores[2]
    rows = [line for line in (exp / "RESULTS.md").read_text().splitlines() if "WER %" in line]
    assert len(rows) == 3 and len({row.partition("utterances)")[2].lstrip() for row in rows}) == 1

    # The pack has its pieces with it
    config = yaml.safe_load((asr / "config.yaml").read_text())
    assert config["token_type"] == "bpe" and len(config["token_list"]) == 14
    files = list(data_dir.read_table(raw / "test_wav/wav.scp").values())
    unpacked = tmp_path / "unpacked"
    done = subprocess.run(
        [warm_python[1], "-c", RELOAD, asr / "packed.zip", unpacked]
        + [recipe / "conf/decode_ctc.yaml", *files],
        cwd=recipe,
        env=environment_of(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    texts = data_dir.read_table(decoded / "test_wav/text")
    assert [text.strip() for text, _ in found] == list(texts.values())
    assert [score for _, score in found] == pytest.approx(list(scores[0].values()), rel=1e-3)
    (written,) = unpacked.rglob("config.yaml")
    assert Path(yaml.safe_load(written.read_text())["bpemodel"]).is_relative_to(unpacked)

    # What has come to the hub
    assert {"README.md", "config.json", "model.safetensors"} <= {
        file.name for file in (hub / "me/small").iterdir()
    }
    assert {"README.md", "meta.yaml"} <= {file.name for file in (hub / "me/small-asr").iterdir()}
    assert len(list((hub / "me/small-asr").rglob("*.pth"))) == 1
    for name in ("small", "small-asr"):
        card = (hub / "me" / name / "README.md").read_text()
        assert "license: mit" in card and f'"me/{name}"' in card and rows[0] in card
