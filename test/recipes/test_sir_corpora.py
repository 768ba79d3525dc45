"""Recipes of published questions about recordings, on miniatures in the authors' layouts."""

import json

import pytest

from espnet_prune.data.data_dir import read_table
from espnet_prune.evaluate.sir.answers import read_answers
from test.espnet_prune.data.corpora.small_questions import save_audiobench, save_audiomarathon
from test.espnet_prune.evaluate.sir.stand_in import save_speech_llm
from test.recipes.running import copy_of, run_recipe


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


@pytest.mark.recipe
def test_one_model_on_a_gpu(tmp_path, warm_python):
    """Two copies of 16 GB are not started where nobody has asked for them. There is no model, but
    key files, one for each job."""
    recipe = copy_of("audiomarathon/sir1", tmp_path)
    authors = {"AUDIOMARATHON": str(save_audiomarathon(tmp_path / "authors"))}
    options = ["--debug", "true", *warm_python]
    run_recipe(recipe, *options, "--stop_stage", "1", **authors)
    config = recipe / "gpu.yaml"
    config.write_text("speech_llm: qwen2_audio\nspeech_llm_conf:\n    device: cuda:0\n")
    options += ["--stage", "3", "--stop_stage", "3", "--speech_llm_conf"]
    cases = [
        (["model=none"], 2),
        (["model=none device=cuda"], 1),
        (["model=none", "--ngpu", "1"], 1),
        (["model=none", "--ngpu", "1", "--inference_nj", "2"], 2),
        (["model=none", "--inference_config", "gpu.yaml"], 1),
    ]
    for number, (more, jobs) in enumerate(cases):
        run_recipe(recipe, *options, *more, "--inference_tag", f"case{number}", expect=1)
        logs = recipe / "exp_debug" / f"case{number}" / "audiomarathon_debug_scr" / "logdir"
        assert len(list(logs.glob("*.keys"))) == jobs, more
