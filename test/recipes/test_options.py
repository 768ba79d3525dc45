"""What all recipes share: options, help, errors, new recipes, a checkout that stays as it is."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from test.recipes.running import EGS2, copy_of, environment_of, run_recipe

RECIPES = sorted(str(path.parent.relative_to(EGS2)) for path in EGS2.glob("*/*/run.sh"))


@pytest.fixture
def without_python(tmp_path):
    """A PATH on which python3 says that it was called, and fails."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "python3").write_text(f"#!/bin/sh\ntouch {tmp_path}/called\nexit 1\n")
    (folder / "python3").chmod(0o755)
    yield f"{folder}:{os.environ['PATH']}"
    assert not (tmp_path / "called").exists()


@pytest.mark.parametrize("recipe", RECIPES)
def test_help_shows_the_recipes_own_values_without_python(recipe, without_python):
    shown = run_recipe(EGS2 / recipe, "--help", PATH=without_python)
    options = [line.split()[0] for line in shown.splitlines() if line.startswith("  --")]
    assert {"--debug", "--stage", "--stop_stage", "--expdir", "--nj"} <= set(options)
    assert len(options) == len(set(options)) and "\nStages: 1 " in shown
    script = (EGS2 / recipe / "run.sh").read_text()
    for name in ("superb_task", "valid_set", "prune_config", "pack_window"):
        for line in script.splitlines():
            if line.startswith(f"    --{name} ") and "$" not in line:
                assert f"  --{name} [{line.split()[1]}]  " in shown
    # A value that is given is shown, and --help may stand anywhere
    shown = run_recipe(EGS2 / recipe, "--help", "--expdir", "elsewhere", PATH=without_python)
    assert "  --expdir [elsewhere]  " in shown


WRONG = {
    "--stage x": "--stage takes a whole number, not 'x'",
    "--nj two": "--nj takes a whole number, not 'two'",
    "--nj a[$(touch${IFS}evil)]": "--nj takes a whole number",
    "--debug maybe": "--debug takes true or false, not 'maybe'",
    "--debug": "option --debug wants a value: write '--debug true' or '--debug false'",
    "--debug --nj 2": "option --debug wants a value",
    "--expdir --nj 2": "option --expdir wants a value: write '--expdir VALUE'",
    "--stage=3": "write '--stage 3' with a space, not '--stage=3'",
    "--PATH x": "unknown option --PATH (--help lists them)",
    "3": "'3' is no option; options start with --",
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_value_that_does_not_fit_is_one_line(recipe, without_python):
    for options, message in WRONG.items():
        (line,) = run_recipe(
            EGS2 / recipe, *options.split(" "), expect=2, PATH=without_python
        ).splitlines()
        assert line.startswith(f"./run.sh: error: {message}"), options
    assert not (EGS2 / recipe / "evil").exists()


@pytest.mark.parametrize(
    "name", ["--", "--@", "--*", "--x[$(touch evil)]", "--stage[$(touch evil)]", "--a b", "--IFS"]
)
def test_a_name_that_is_no_option_is_one_line_and_never_evaluated(name, without_python):
    recipe = EGS2 / "librispeech" / "ssl_prune1"  # has options of its own, too
    for options in ([name, "1"], ["--stage", name], ["--expdir", "x", name, "1"]):
        (line,) = run_recipe(recipe, *options, expect=2, PATH=without_python).splitlines()
        assert line.startswith("./run.sh: error: "), options
    assert not (recipe / "evil").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (" --a b  c\nd ", ["--a", "b", "c", "d"]),
        ("--a '/my dir/x' \"y 'z'\"", ["--a", "/my dir/x", "y 'z'"]),
        ("--conf=[0,4] * ? a'b c'd ''", ["--conf=[0,4]", "*", "?", "ab cd", ""]),
        ("$(touch evil) `touch evil` $HOME", ["$(touch", "evil)", "`touch", "evil`", "$HOME"]),
    ],
)
def test_options_in_options_may_be_quoted(text, words, tmp_path):
    script = f'. {EGS2}/TEMPLATE/common/options.sh; set -eu; words a "$1"; '
    script += "printf '%s\\0' \"${a[@]}\""
    if not words:
        script = script.replace('"${a[@]}"', '"${#a[@]}"')
    found = subprocess.check_output(["bash", "-c", script, "x", text], text=True, cwd=tmp_path)
    assert found.split("\0")[:-1] == (words or ["0"])
    assert not list(tmp_path.iterdir())


def test_a_quote_that_does_not_end_is_one_line(tmp_path):
    script = f'. {EGS2}/TEMPLATE/common/options.sh; words a "it\'s"'
    done = subprocess.run(["bash", "-c", script, "x"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "x: error: 'it's' has a quote that does not end\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "--skip_upload false needs --hf_repo"),
        (("--hf_repo", "a/b"), "--skip_upload false needs --license"),
    ],
)
def test_upload_needs_a_repository_and_a_licence(options, message, without_python):
    for recipe in ("voice_prompts", "librispeech"):
        given = ["--skip_upload", "false", *options]
        (line,) = run_recipe(
            EGS2 / recipe / "ssl_prune1", *given, expect=2, PATH=without_python
        ).splitlines()
        assert message in line


@pytest.mark.parametrize("template", ["ssl_prune1", "superb1", "sir1"])
def test_setup_makes_a_recipe(template, tmp_path):
    shutil.copytree(EGS2 / "TEMPLATE", tmp_path / "egs2/TEMPLATE", symlinks=True)
    for source in ("voice_prompts/ssl_prune1", "fsdd/superb_ks1"):
        shutil.copytree(EGS2 / source / "conf", tmp_path / "egs2" / source / "conf")
    for name in ("espnet_prune", "tools"):
        (tmp_path / name).symlink_to(EGS2.parent / name)
    command = [tmp_path / "egs2/TEMPLATE/common/setup.sh", template, "egs2/corpus/task1"]
    done = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    recipe = tmp_path / "egs2/corpus/task1"
    assert "Stages: 1 data" in run_recipe(recipe, "--help")
    upstream = ["--upstream", "x"] if template == "superb1" else []
    assert "local/data.sh: error: write this file" in run_recipe(recipe, *upstream, expect=1)
    again = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True)
    assert again.returncode == 2 and "is there already" in again.stderr


def tree(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if "__pycache__" not in path.parts}


@pytest.mark.recipe
def test_everything_can_be_written_elsewhere(tmp_path):
    """Data, downloads, audio and experiments of a checkout that cannot be written."""
    from test.espnet_prune import small_corpora

    recipe = copy_of("fsdd/superb_sid1", tmp_path / "tree")
    corpus = small_corpora.fsdd(tmp_path / "corpus")
    before = tree(recipe)
    git = tmp_path / "bin"
    git.mkdir()
    (git / "git").write_text(f'#!/bin/sh\nfor target; do :; done\ncp -r {corpus} "$target"\n')
    (git / "git").chmod(0o755)
    options = ["--upstream", "x", "--stop_stage", "2"]
    for name in ("data", "dump", "exp"):
        options += [f"--{name}dir", str(tmp_path / "out" / name)]
    downloads = tmp_path / "out" / "downloads"
    downloads.mkdir(parents=True)
    options += ["--download_dir", str(downloads)]
    path = f"{git}:{environment_of()['PATH']}"
    run_recipe(recipe, *options, FSDD="", PATH=path)
    assert (downloads / "free-spoken-digit-dataset/recordings").is_dir()
    assert (tmp_path / "out/data/train/wav.scp").is_file()
    assert (tmp_path / "out/dump/raw/train/utt2num_samples").is_file()
    assert tree(recipe) == before
