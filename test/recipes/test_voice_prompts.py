"""The recipe from its first stage to its last with the debug options, as the README says."""

import functools
import json
import os
import random
import shutil
import signal
import subprocess
import time

import pytest
import torch
import yaml

from espnet_prune.structured import load_encoder
from test.recipes.running import EGS2, environment_of, run_recipe

RECIPE = EGS2 / "voice_prompts" / "ssl_prune1"
run = functools.partial(run_recipe, RECIPE)


def kill(seconds: float, *options: str) -> bool:
    """Start the recipe and kill it and all that it started after some time, as kill -9 does;
    false if it had ended by then."""
    process = subprocess.Popen(
        ["./run.sh", *options],
        cwd=RECIPE,
        env=environment_of(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    time.sleep(seconds)
    if process.poll() is not None:
        assert process.returncode == 0
        return False
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return True


@pytest.fixture(scope="module")
def debug_run(tmp_path_factory):
    """Options of a finished debug run, what it printed, and its experiment's directory."""
    if shutil.which("apt-get") is None:
        pytest.skip("the prompts are Debian packages")
    tmp_path = tmp_path_factory.mktemp("debug")
    options = ["--debug", "true", "--expdir", str(tmp_path / "exp")]
    options += ["--dumpdir", str(tmp_path / "dump")]
    printed = run(*options)
    return options, printed, next((tmp_path / "exp").glob("ssl_prune_*_one_shot_0.5"))


@pytest.fixture(scope="module")
def learned_run(debug_run):
    """The same for gates that are learned, on the data and teacher of the debug run; seconds."""
    options, _, one_shot = debug_run
    options = [*options, "--method", "l0", "--stage", "4", "--stop_stage", "7"]
    start = time.monotonic()
    printed = run(*options)
    exp = next(one_shot.parent.glob("ssl_prune_*_l0_0.5"))
    return options, printed, exp, time.monotonic() - start


@pytest.mark.recipe
@pytest.mark.timeout(1500)
def test_debug_run(debug_run):
    options, printed, exp = debug_run
    assert "Whisper's own decoder" in printed
    results = (exp / "RESULTS.md").read_text()
    for text in ("real-time factor", "WER %", "CER %", "CTC ASR", "## Environment"):
        assert text in results
    assert all(f"test_{name}_debug" in results for name in ("en", "hibari", "joe"))
    row = json.loads((exp / "distill" / "updates.jsonl").read_text().splitlines()[0])
    assert row["decoder"] > 0
    summary = json.loads((exp / "slim" / "summary.json").read_text())
    assert summary["exact"] == pytest.approx(0.5, abs=0.01)
    pruned = load_encoder(exp / "pruned")
    assert sum(p.numel() for p in pruned.parameters()) == summary["parameters"]
    asr = yaml.safe_load(next(exp.glob("asr_*/config.yaml")).read_text())
    assert asr["frontend"] == "pruned_ssl" and asr["frontend_conf"]["model"] == str(exp / "pruned")

    # What was made from other inputs is not taken for this
    printed = run(
        *options,
        *("--stage", "6", "--prune_tag", exp.name.removeprefix("ssl_prune_")),
        *("--distill_args", "--optim_conf lr=1.0e-4"),
        expect=1,
    )
    assert "was made from other data, models or options" in printed

    # Baseline with the same data, and nothing trained twice
    printed = run(*options, "--stage", "5", "--method", "random")
    assert next(exp.parent.glob("ssl_prune_*_random_0.5/RESULTS.md")).is_file()


@pytest.mark.recipe
@pytest.mark.timeout(1500)
def test_learned_gates(learned_run):
    _, _, exp, _ = learned_run
    summary = json.loads((exp / "slim" / "summary.json").read_text())
    assert summary["exact"] == pytest.approx(0.5, abs=0.01)
    assert (exp / "prune" / "images" / "kept.png").is_file()


@pytest.mark.recipe
@pytest.mark.timeout(1500)
def test_killed_three_times_it_ends_as_without(learned_run):
    """Both phases, killed at random moments; gates, multipliers, counter and weights continue."""
    options, _, whole, seconds = learned_run
    options = [*options, "--prune_tag", "killed"]
    moments = random.Random()  # another three in every run; each of them has to do
    killed = whole.parent / "ssl_prune_killed"
    kills = 0
    while kills < 3:  # stages 4 to 7 take over a fifth of their time even when all is done
        if kill(seconds * moments.uniform(0.1, 0.3), *options):
            kills += 1
        else:  # the whole run had less of the machine than this one: again, and earlier
            shutil.rmtree(killed)
            kills, seconds = 0, seconds / 2
    run(*options)
    for phase in ("prune", "distill"):
        # ESPnet's own training state
        a, b = (
            torch.load(exp / phase / "checkpoint.pth", weights_only=False)["model"]
            for exp in (whole, killed)
        )
        assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
        rows = [(exp / phase / "updates.jsonl").read_text() for exp in (whole, killed)]
        assert rows[0] == rows[1] and len(rows[0].splitlines()) == 6
    a, b = ((exp / "pruned" / "model.safetensors").read_bytes() for exp in (whole, killed))
    assert a == b


@pytest.mark.recipe
def test_wrong_options():
    assert "unknown option --bogus" in run("--bogus", "1", expect=2)
    assert "has to be in [0, 1)" in run("--target", "1.0", expect=2)
    assert "takes true or false" in run("--skip_bad", "maybe", expect=2)
    assert "choose l0, one_shot, random or scratch" in run("--method", "magic", expect=2)
    assert "--method scratch needs --like" in run("--method", "scratch", expect=2)


@pytest.mark.recipe
@pytest.mark.parametrize(
    "config", sorted((RECIPE / "conf").glob("[pd][ri][us]*.yaml")), ids=lambda path: path.stem
)
def test_configs_of_pruning_are_valid(config, tmp_path):
    """ESPnet's dry run builds model and optimiser from the YAML and stops."""
    from espnet_prune.plugin.tasks.ssl_prune import SSLPruneTask
    from test.espnet_prune.tiny import saved

    teacher = saved("whisper", tmp_path / "teacher")
    args = ["--config", str(config), "--teacher", str(teacher), "--dry_run", "true"]
    SSLPruneTask.main(cmd=[*args, "--iterator_type", "none", "--output_dir", str(tmp_path / "out")])
    assert (tmp_path / "out" / "config.yaml").is_file()
