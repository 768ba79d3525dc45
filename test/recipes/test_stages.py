"""What the stages of all recipes use, without training: locks, signals, what is made anew."""

import os
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_prune.cli import main
from test.recipes.running import EGS2, copy_of, environment_of

ROOT = EGS2.parent
SSL_PRUNE = EGS2 / "TEMPLATE" / "ssl_prune1" / "ssl_prune.sh"
HEAD = """
set -euo pipefail
. template/common/options.sh
. template/common/path.sh
. template/common/stages.sh
python=python3
"""
# Runs as many jobs as run.pl would; each recognises WORD in what it is asked for.
JOBS = """
jobs() {
    local number scp
    for ((number = 1; number <= ${1#JOB=1:}; number++)); do
        mkdir -p "${out}/logdir/output.${number}/1best_recog"
        sed "s/ .*/ ${WORD}/" "${out}/logdir/keys.${number}.scp" \\
            > "${out}/logdir/output.${number}/1best_recog/text"
    done
    echo decoded
}
decode_cmd=jobs plugin=plugin inference_config= inference_words=()
"""

# Under nohup a hang-up ends nothing, as it should
ENDING = ["SIGTERM", "SIGINT", "SIGQUIT"]
if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
    ENDING.append("SIGHUP")


def functions_of(script: Path, *names: str) -> str:
    """The source of shell functions."""
    text = script.read_text()
    return "\n".join(
        text[text.index(f"\n{name}() {{") :].partition("\n}\n")[0] + "\n}" for name in names
    )


@pytest.fixture
def recipe(tmp_path):
    """A folder with blanks and glob characters in its name that is a recipe; what it returns writes
    run.sh there and gives its command."""
    root = tmp_path / "my [checkout] *"
    folder = root / "egs2" / "a" / "b"
    folder.mkdir(parents=True)
    for name in ("espnet_prune", "tools"):
        (root / name).symlink_to(ROOT / name)
    (root / "egs2" / "TEMPLATE").symlink_to(EGS2 / "TEMPLATE")
    (folder / "template").symlink_to(EGS2 / "TEMPLATE")

    def write(script: str, head: str = HEAD) -> Path:
        (folder / "run.sh").unlink(missing_ok=True)  # bash may still read the last one
        (folder / "run.sh").write_text("#!/usr/bin/env bash\n" + head + script)
        (folder / "run.sh").chmod(0o755)
        return folder

    return write


def run(folder, expect=0, **environment):
    done = subprocess.run(
        ["./run.sh", "--an option"],
        cwd=folder,
        env=environment_of(**environment),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == expect, done.stdout
    return done.stdout


def start(folder, **options):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(
        ["./run.sh"], cwd=folder, env=environment_of(), start_new_session=True, **pipes, **options
    )


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


# The job, and what it has started, write their numbers; each kind of job is one of a recipe.
SLEEP = "bash -c 'echo $$ > pids; sleep 60 & echo $! >> pids; wait'"
PLACES = {
    "a command": SLEEP,
    "a function in the background": "f() { " + SLEEP + "; }; f & wait $!",
    "run.pl": f"PATH=$PWD/template/common:$PATH; run.pl 'my log/a.log' {SLEEP}",
    "a subshell": f"x=$(alone 'my exp' {SLEEP})",
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ENDING)
def test_what_ends_a_recipe_ends_all_that_it_has_started(recipe, place, name):
    folder = recipe(PLACES[place] + "\necho the next stage\n")
    process = start(folder)
    wait_for(lambda: (folder / "pids").exists() and (folder / "pids").read_text().count("\n") == 2)
    process.send_signal(getattr(signal, name))
    shown = process.communicate(timeout=60)[0]
    assert process.returncode == 128 + getattr(signal, name) and "next" not in shown
    assert not any(map(alive, map(int, (folder / "pids").read_text().split())))


def test_a_recipe_with_a_template_ends_with_its_stages(tmp_path):
    """run.sh becomes the template's process, which becomes the one that ends them all."""
    folder = copy_of("fsdd/superb_ks1", tmp_path / "tree")
    (folder / "local" / "data.sh").write_text("#!/bin/bash\n" + PLACES["a command"])
    command = ["./run.sh", "--upstream", "x", "--stop_stage", "1"]
    process = subprocess.Popen(command, cwd=folder, env=environment_of(), start_new_session=True)
    wait_for(lambda: (folder / "pids").exists() and (folder / "pids").read_text().count("\n") == 2)
    process.terminate()
    assert process.wait(60) == 128 + signal.SIGTERM
    assert not any(map(alive, map(int, (folder / "pids").read_text().split())))


@pytest.mark.parametrize("script", list(EGS2.glob("*/*/run.sh")), ids=lambda p: p.parent.name)
def test_no_shell_stands_between_the_user_and_the_stages(script):
    text = script.read_text()
    assert "\nexec template/" in text or "\n. template/common/path.sh" in text


def test_what_ignores_the_signal_is_killed_at_the_second_one(recipe):
    script = "import os, signal, time; signal.signal(15, signal.SIG_IGN); "
    script += "open('pids', 'w').write(f'{os.getpid()}\\n'); time.sleep(60)"
    folder = recipe(f"python3 -c {shlex.quote(script)}\n")
    process = start(folder)
    wait_for(lambda: (folder / "pids").exists() and (folder / "pids").read_text())
    process.terminate()
    time.sleep(0.5)
    pid = int((folder / "pids").read_text())
    assert alive(pid) and process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode == 128 + signal.SIGTERM and not alive(pid)


def test_the_exit_status_and_the_input_are_those_of_the_script(recipe):
    assert "$?" not in run(recipe("exit 7\n"), expect=7)
    assert run(recipe("kill -9 $$\n"), expect=137) == ""
    folder = recipe('read -r line; echo "got ${line} $0 $*"\n')
    process = subprocess.run(
        ["./run.sh", "a b"], cwd=folder, env=environment_of(), text=True, input="x\n",
        capture_output=True,
    )  # fmt: skip
    assert process.stdout == "got x ./run.sh a b\n"


def test_a_second_run_in_one_experiment_is_told_who_holds_it(recipe):
    folder = recipe("hold 'my exp'\necho holds\nsleep 60 &\nwait\n")
    first = start(folder)
    assert first.stdout.readline() == "holds\n"
    (line,) = run(folder, expect=1).splitlines()
    assert line.startswith("error: my exp is in use by ./run.sh (process ")
    first.kill()  # the supervisor alone: what it has started goes on, and keeps the lock
    first.wait()
    os.killpg(first.pid, signal.SIGKILL)
    first.stdout.close()
    again = start(folder)
    assert again.stdout.readline() == "holds\n"
    os.killpg(again.pid, signal.SIGKILL)
    again.communicate()


def test_what_experiments_share_waits(recipe):
    script = 'f() { echo "$1 begun"; while [ ! -e go ]; do sleep 0.1; done; echo "$1 ended"; }\n'
    folder = recipe(script + 'alone exp f "first one"\n')
    first = start(folder)
    assert first.stdout.readline() == "first one begun\n"
    recipe("alone exp echo second\nhold a\nrelease a\nhold --wait a; echo again\n")
    other = start(folder)
    assert other.stdout.readline().startswith("exp is in use by ./run.sh (process ")
    (folder / "go").touch()
    assert first.communicate()[0] == "first one ended\n"
    assert other.communicate()[0] == "second\nagain\n"


def noise(path: Path, seed: int, seconds: float):
    samples = np.random.default_rng(seed).normal(size=int(16000 * seconds)) * 0.1
    soundfile.write(path, samples, 16000)


def test_other_audio_under_the_same_names_is_seen(recipe, tmp_path):
    folder = recipe('fresh exp "packed/wav.scp,speech,sound" "0.5 0"\necho goes on\n')

    def prepare(seed):
        (tmp_path / "data").mkdir(exist_ok=True)
        for name in "ab":
            noise(tmp_path / f"{name}.wav", seed, 1 + seed)
        lines = [f"{name} {tmp_path}/{name}.wav\n" for name in "ab"]
        (tmp_path / "data" / "wav.scp").write_text("".join(lines))
        for table in ("utt2spk", "spk2utt"):
            (tmp_path / "data" / table).write_text("a a\nb b\n")
        shutil.rmtree(tmp_path / "dump", ignore_errors=True)
        main(["data", "format", str(tmp_path / "data"), str(tmp_path / "dump")])
        main(["data", "pack", str(tmp_path / "dump"), str(folder / "packed")])

    prepare(0)
    assert "goes on" in run(folder)
    (folder / "exp" / "checkpoint.pth").touch()
    before = (folder / "packed" / "wav.scp").read_text()
    prepare(0)  # the same again
    assert "goes on" in run(folder)
    prepare(1)
    assert (folder / "packed" / "wav.scp").read_text() == before
    (line,) = run(folder, expect=1).splitlines()
    assert line.startswith("error: exp was made from other data, models or options")


def test_decoding_is_done_anew_when_anything_is_other(recipe):
    """Weights, configs, options, audio, number of jobs; parts of other jobs do not come in."""
    folder = recipe("")
    for place in ("raw/t", "my asr"):
        (folder / place).mkdir(parents=True)
    for name in "1234":
        noise(folder / f"{name}.flac", int(name), 0.1)
    scp = "".join(f"u{name} {folder}/{name}.flac\n" for name in "1234")
    (folder / "raw/t/wav.scp").write_text(scp)
    for name in ("config.yaml", "m.pth", "other.yaml"):
        (folder / "my asr" / name).write_text(name)
    os.utime(folder / "my asr" / "m.pth", (1e9, 1e9))  # age says nothing
    decode = functions_of(SSL_PRUNE, "decode_asr")
    values = "raw=raw; tests=(t); inference_tag=dec; inference_asr_model=m.pth\n"

    def decoded(word, jobs=4, more="", expect=True):
        recipe(decode + JOBS + values + f"inference_nj={jobs}\n{more}\ndecode_asr 'my asr'\n")
        assert ("decoded" in run(folder, WORD=word)) == expect, more
        found = (folder / "my asr/dec/t/text").read_text()
        wanted = word if expect else "first"
        assert found == "".join(f"u{name} {wanted}\n" for name in "1234")

    decoded("first")
    decoded("second", expect=False)
    decoded("third", jobs=2, expect=False)
    (folder / "my asr" / "m.pth").write_text("w.pth")
    os.utime(folder / "my asr" / "m.pth", (1e9, 1e9))
    decoded("new weights", jobs=2)
    decoded("options", more="inference_words=(--beam_size 5)")
    config = "inference_words=(--beam_size 5); inference_config='my asr/other.yaml'"
    decoded("config", more=config)
    (folder / "my asr" / "other.yaml").write_text("beam_size: 3")
    decoded("content of the config", more=config)
    noise(folder / "3.flac", 9, 0.1)
    decoded("audio", more=config)
    (folder / "my asr" / "config.yaml").write_text("x")
    decoded("config of the training", more=config)
    (folder / "my asr/dec/t/.made").unlink()  # killed before the end
    decoded("first", more=config)
    decoded("anything", more=config, expect=False)


@pytest.mark.parametrize("ngpu", [0, 1])
def test_dense_and_pruned_get_their_arguments_as_they_are(recipe, ngpu):
    script = functions_of(SSL_PRUNE, "with_half", "both")
    script += "\nasr() { printf '<%s>' \"$@\" >> said; echo >> said; }\n"
    script += f"ngpu={ngpu} expdir='my *'\n"
    script += 'both asr "my */asr [dense]" "my */teacher" -- "my */asr_t" --encoder "a  b"\n'
    script += 'fails() { [ "$1" != bad ]; echo $1; }\nboth fails bad -- good\necho the next stage\n'
    folder = recipe(script)
    assert run(folder, expect=1) in ("good\n", "")
    said = sorted((folder / "said").read_text().splitlines())
    assert said == ["<my */asr [dense]><my */teacher>", "<my */asr_t><--encoder><a  b>"]


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_clone_that_was_killed_is_not_taken_for_whole(recipe, tmp_path):
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path / "origin")]
    subprocess.run(["git", "init", "-q", str(tmp_path / "origin")], check=True)
    (tmp_path / "origin" / "recordings").mkdir()
    (tmp_path / "origin" / "recordings" / "a").touch()
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-qm", "a"], check=True)
    source = shlex.quote(f"file://{tmp_path}/origin")
    folder = recipe(functions_of(EGS2 / "TEMPLATE/common/local_data.sh", "clone"))
    recipe((folder / "run.sh").read_text() + f"\nclone {source} 'my corpus'\n", head="")
    (folder / "my corpus.part" / "recordings").mkdir(parents=True)  # of a killed one
    run(folder)
    assert (folder / "my corpus" / "recordings" / "a").exists()
    assert not (folder / "my corpus.part").exists()


def test_a_clone_that_fails_leaves_no_corpus(recipe, tmp_path):
    (tmp_path / "bin").mkdir()
    text = '#!/bin/sh\nfor target; do :; done\nmkdir "$target"\nexit 128\n'  # killed half way
    (tmp_path / "bin/git").write_text(text)
    (tmp_path / "bin/git").chmod(0o755)
    folder = recipe(functions_of(EGS2 / "TEMPLATE/common/local_data.sh", "clone"))
    text = (folder / "run.sh").read_text()
    recipe(text + "\nif clone https://no.invalid/x corpus; then touch whole; fi\n", head="")
    run(folder, PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert not (folder / "corpus").exists() and not (folder / "whole").exists()


def test_scores_of_all_systems_with_blanks_in_their_places(recipe):
    text = SSL_PRUNE.read_text()
    stages = text[text.index("if wanted 10; then") : text.index("if wanted 12; then")]
    values = """
stage=10 stop_stage=11 skip_stages= tests=(one two) raw='my raw' expdir='my |exp' asr_train_set=x
exp="${expdir}/e  e" asr_tag=tag inference_tag=dec dense_asr="${expdir}/dense" whisper_decode=true
teacher_dir='my teacher' command_line=line asr_dir="${exp}/asr_${asr_tag}"
teacher=a/b license=mit hf_repo=c/d
told() { printf '<%s>' "${@:3}" >> told; echo >> told; }
python=told
"""
    folder = recipe(values + functions_of(SSL_PRUNE, "systems") + "\n" + stages)
    run(folder)
    *scored, results = (folder / "told").read_text().splitlines()
    exp = "my |exp/e  e"
    places = {
        "CTC ASR on the frozen encoder": (f"{exp}/asr_tag/dec", "my |exp/dense/dec"),
        "Whisper's own decoder": (f"{exp}/whisper", "my |exp/whisper_dense"),
    }
    pairs = [(dset, *each) for dset in ("one", "two") for each in places.items()]
    for line, (dset, _, (own, dense)) in zip(scored, pairs, strict=True):
        assert line == (
            f"<score><text><--ref><my raw/{dset}/text><--hyp><{own}/{dset}/text>"
            f"<--hyp2><{dense}/{dset}/text><--output_dir><{own}/{dset}>"
        )
    scores = (f"<--score><{t}, {d}><{own}/{d}/scores.json>" for d, t, (own, _) in pairs)
    assert results.endswith("<--command><line>" + "".join(scores))
    card = f"<--asr><{exp}/asr_tag><--base_model><a/b><--license_name><mit><--repo><c/d>"
    assert card in results


@pytest.mark.parametrize("place", ["a,b", "my JOBS"])
def test_paths_that_espnet_or_the_runner_would_cut(recipe, place):
    head = HEAD.replace("template/common/path.sh", f"template/common/path.sh; expdir='{place}'")
    (line,) = run(recipe("", head=head), expect=2).splitlines()
    assert (
        line
        == f"./run.sh: error: --expdir '{place}': a path without a comma and without JOB is wanted"
    )


def test_what_a_log_says_is_not_interpreted(recipe):
    assert run(recipe("log 'a\\nb\\c d'\n")).endswith(" a\\nb\\c d\n")
