"""Recipes of published questions about recordings, on miniatures in the authors' layouts."""

import json

import pytest

from espnet_prune.data.data_dir import read_table
from espnet_prune.evaluate.sir.answers import read_answers
from test.espnet_prune.data.corpora.small_questions import save_audiobench, save_audiomarathon
from test.espnet_prune.evaluate.sir.stand_in import save_speech_llm
from test.recipes.running import copy_of, environment_of, run_recipe


@pytest.mark.recipe
@pytest.mark.parametrize(
    ("corpus", "variable", "sets"),
    [
        ("dream", "DREAM_TTS", {"dream_debug": 3, "dream_debug_60s": 2}),
        ("audiomarathon", "AUDIOMARATHON", {f"audiomarathon_debug_{t}": 2 for t in ("scr", "ser")}),
    ],
)
def test_all_stages(corpus, variable, sets, tmp_path, warm_python):
    if corpus == "dream":
        pytest.importorskip("pyarrow")
    recipe = copy_of(f"{corpus}/sir1", tmp_path)
    save = save_audiobench if corpus == "dream" else save_audiomarathon
    options = ["--debug", "true", "--inference_tag", "tiny", *warm_python]
    options += ["--speech_llm_conf", f"model={save_speech_llm(tmp_path / 'model')}"]
    # by letters, for the published answers are
    options += ["--inference_config", "conf/sir_qwen2_audio_letter.yaml", "--rates", "0.8"]
    authors = {variable: str(save(tmp_path / "authors"))}
    run_recipe(recipe, *options, **authors)
    for name, number in sets.items():
        exp = recipe / "exp_debug" / "tiny" / name
        scores = json.loads((exp / "scores.json").read_text())
        # whole, 30 s and nothing (there are no transcripts), and two strategies
        assert scores["items"] == number and len(scores["conditions"]) == 3 + 2
        header, answers = read_answers(exp)
        assert header["protocol"] == "letter" and len(answers) == 5 * number
        assert "## Accuracy by letter (%)" in (exp / "RESULTS.md").read_text()


@pytest.mark.recipe
def test_where_the_corpora_are(tmp_path):
    """ccl differs from dream in its names alone."""
    pytest.importorskip("pyarrow")
    recipe = copy_of("ccl/sir1", tmp_path)
    options = ["--debug", "true", "--stop_stage", "1"]
    printed = run_recipe(recipe, *options, expect=1, CN_COLLEGE_LISTEN="")
    assert "Fill the value of 'CN_COLLEGE_LISTEN' of template/common/db.sh" in printed
    corpus = str(save_audiobench(tmp_path / "authors"))
    run_recipe(recipe, *options, CN_COLLEGE_LISTEN=corpus)
    assert len(read_table(recipe / "data" / "ccl_debug" / "wav.scp")) == 3
    assert len(read_table(recipe / "data" / "ccl_debug_60s" / "wav.scp")) == 2


#: a python3 that starts what it is to supervise, and notes what jobs it is to run
STUB = """#!/bin/sh
case "$*" in
    "-m espnet_prune.launch.supervise "*) shift 2; exec "$@" ;;
    "-m espnet_prune.launch.jobs "*) echo "$*" > jobs.log; exit 1 ;;
esac
"""


@pytest.mark.parametrize(
    ("options", "jobs"),
    [
        ([], 2),
        (["--speech_llm_conf", "model=x device=cuda:1"], 1),
        (["--ngpu", "1"], 1),
        (["--ngpu", "1", "--inference_nj", "2"], 2),
        (["--inference_config", "gpu.yaml"], 1),
        (["--inference_args", "--speech_llm_conf device=cuda"], 1),
    ],
)
def test_one_model_on_a_gpu(options, jobs, tmp_path):
    """Two copies of 16 GB are not started where nobody has asked for them."""
    recipe = copy_of("audiomarathon/sir1", tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").write_text(STUB)
    (tmp_path / "bin" / "python3").chmod(0o755)
    (recipe / "data" / "x").mkdir(parents=True)
    (recipe / "data" / "x" / "wav.scp").write_text("a a.wav\nb b.wav\n")
    (recipe / "gpu.yaml").write_text("speech_llm_conf:\n    device: 'cuda:0'\n")
    path = f"{tmp_path / 'bin'}:{environment_of()['PATH']}"
    stage = ["--stage", "3", "--stop_stage", "3", "--test_sets", "x"]
    run_recipe(recipe, *stage, *options, expect=1, PATH=path)
    assert f" JOB=1:{jobs} " in (recipe / "jobs.log").read_text()
