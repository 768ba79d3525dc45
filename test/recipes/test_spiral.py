"""The recipe of SPIRAL from its first stage to its last, with a tiny random speech LLM."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from espnet_prune.data.data_dir import read_table
from espnet_prune.evaluate.sir.answers import read_answers
from test.espnet_prune.evaluate.sir.stand_in import save_speech_llm
from test.recipes.running import EGS2, copy_of, environment_of, run_recipe
from test.recipes.test_mini_spiral import VOICES

ITEMS = EGS2 / "mini_spiral" / "sir1" / "items"
SETS = ("spiral_debug", "spiral_h_debug")


def shortened(row: dict) -> dict:
    turns = [(turn["speaker"], text) for turn in row["transcript"] for text in turn["text"]]
    key = [text for _, text in turns].index(row["original_key_sentence"])
    near = turns[max(0, key - 2) : key + 3]
    return {**row, "transcript": [{"speaker": name, "text": [text]} for name, text in near]}


def write_stand_in(folder: Path) -> Path:
    """Rows of our own in the place of the authors' files, cut to what stands around the key
    sentence; the hard ones are two of them."""
    folder.mkdir(parents=True)
    rows = [file.read_text().splitlines()[n] for file in sorted(ITEMS.iterdir()) for n in (0, 1)][
        :4
    ]
    rows = [json.dumps(shortened(json.loads(row))) + "\n" for row in rows]
    (folder / "data.jsonl").write_text("".join(rows))
    (folder / "data_h.jsonl").write_text("".join(rows[1:3]))
    return folder


@pytest.mark.recipe
def test_all_stages(tmp_path, warm_python):
    recipe = copy_of("spiral/sir1", tmp_path)
    authors = write_stand_in(tmp_path / "authors")
    options = ["--debug", "true", "--speech_llm", "qwen2_audio", "--inference_tag", "tiny"]
    options += ["--speech_llm_conf", f"model={save_speech_llm(tmp_path / 'model')}"]
    options += ["--local_data_opts", f"--suffix _debug --voices {VOICES}", "--wer_windows", "2"]
    options += warm_python
    printed = run_recipe(recipe, *options, SPIRAL=str(authors))
    assert "spiral_h_debug: nothing to check, it is of recordings, or a part of" in printed
    exp, data = recipe / "exp_debug" / "tiny", recipe / "data"
    for name, number in zip(SETS, (4, 2), strict=True):
        scores = json.loads((exp / name / "scores.json").read_text())
        assert scores["items"] == number and len(scores["conditions"]) == 4 + 2 * 2
        assert len(read_answers(exp / name)[1]) == number * 8
        results = (exp / name / "RESULTS.md").read_text()
        assert "## Evidence recall (%)" in results and "(images/tsne.png)" in results
        (command,) = re.findall("Made by `(.*)`", results)
        assert shlex.split(command) == ["./run.sh", *options]  # can be pasted
        assert ("WER % of Whisper" in results) == (name == "spiral_debug")
    hard = read_table(data / SETS[1] / "wav.scp")
    assert hard.items() <= read_table(data / SETS[0] / "wav.scp").items()

    # The authors' files without the hard ones, and speech whose check is of an earlier run
    shutil.rmtree(data / SETS[1])
    shutil.rmtree(data / "spiral_debug_windows")
    printed = run_recipe(recipe, *options, "--stage", "5")
    assert "There is no data/spiral_h_debug: left out" in printed
    assert "WER % of Whisper" not in (exp / SETS[0] / "RESULTS.md").read_text()
    before = (exp / SETS[0] / "answers.1.jsonl").read_bytes()
    named = ["--stage", "3", "--test_sets", " ".join(SETS)]
    printed = run_recipe(recipe, *options, *named, "--strategies", "rac", expect=1)
    assert "error: data/spiral_h_debug: no such data directory" in printed
    assert (exp / SETS[0] / "answers.1.jsonl").read_bytes() == before  # nothing was begun


def with_git(folder: Path, script: str) -> str:
    """A PATH whose git is this script."""
    folder.mkdir()
    (folder / "git").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "git").chmod(0o755)
    return f"{folder}:{environment_of()['PATH']}"


@pytest.mark.recipe
def test_the_authors_files_are_fetched_once(tmp_path):
    recipe = copy_of("spiral/sir1", tmp_path)
    options = ["--stop_stage", "1", "--local_data_opts", f"--items 1 --voices {VOICES}"]
    broken = with_git(tmp_path / "offline", "exit 128")
    printed = run_recipe(recipe, *options, expect=1, SPIRAL="", PATH=broken)
    assert "cannot be fetched from its authors. Set SPIRAL in db.sh" in printed
    assert [path.name for path in (recipe / "data").iterdir()] == [".lock"]

    stand_in = write_stand_in(tmp_path / "authors")
    (stand_in / "data_h.jsonl").unlink()
    # one that was broken off in the middle does not count
    half = 'for target; do :; done; mkdir -p "$target"; echo > "$target/data.jsonl"; kill -9 $$'
    path = with_git(tmp_path / "killed", half)
    printed = run_recipe(recipe, *options, expect=1, SPIRAL="", PATH=path)
    assert "cannot be fetched from its authors" in printed
    log = tmp_path / "calls"
    clone = f'echo "$@" >> {log}; for target; do :; done; mkdir -p downloads; cp -r {stand_in}'
    path = with_git(tmp_path / "online", f'{clone} "$target"')
    for _ in range(2):
        printed = run_recipe(recipe, *options, SPIRAL="", PATH=path)
        assert "There is no data/spiral_h: left out" in printed
    assert len(read_table(recipe / "data" / "spiral" / "wav.scp")) == 1
    address = "https://github.com/linyueqian/SPIRAL_Dataset"
    assert log.read_text() == f"clone --depth 1 {address} downloads/SPIRAL_Dataset.part\n"
