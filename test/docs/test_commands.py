"""The commands in the texts of recipes and documentation exist, and take the options shown."""

import contextlib
import io
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from espnet_prune.cli import main

ROOT = Path(__file__).resolve().parents[2]
TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")]
TEXTS += [*ROOT.glob("egs[23]/*/*/README.md"), *ROOT.glob("egs[23]/*/*/RESULTS.md")]
COMMAND = re.compile(
    r"espnet-prune (?P<noun>[a-z]+)(?: (?P<verb>[a-z][\w-]*))?(?P<rest>[^`\n|]*)"
    r"|tools/benchmarks/(?P<script>\w+\.py)(?P<options>[^`\n|]*)"
    r"|(?:cd (?P<folder>\S+) && )?\./run\.sh(?P<recipe_options>[^`\n|)]*)"
)
OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")


def commands(path: Path):
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    # what stands in quotes are options of other programs
    return COMMAND.finditer(re.sub(r"(?m)\"[^\"\n]*\"|(?<=\s)#.*$", '""', text))


@cache
def help_of(*words: str) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        try:
            main([*words, "--help"])
        except SystemExit as done:
            assert not done.code, words
    return printed.getvalue()


@cache
def recipe_help(folder: Path) -> str:
    done = subprocess.run(["./run.sh", "--help"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def options_in(text: str | None) -> set[str]:
    return set(OPTION.findall(text or ""))


def recipe_of(path: Path, folder: str | None) -> Path | None:
    """The recipe whose run.sh a text means: named by cd, or the one beside the text."""
    if folder:
        for base in (path.parent, ROOT):
            if (base / folder / "run.sh").is_file():
                return base / folder
    return path.parent if (path.parent / "run.sh").is_file() else None


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_take_their_options(path):
    for match in commands(path):
        if match["noun"]:
            words = [match["noun"]] + ([match["verb"]] if match["verb"] else [])
            known = help_of(*words)
            missing = options_in(match["rest"]) - options_in(known)
        elif match["script"]:
            source = (ROOT / "tools/benchmarks" / match["script"]).read_text(encoding="utf-8")
            known = source + (ROOT / "espnet_prune/cli/options.py").read_text(encoding="utf-8")
            missing = {o for o in options_in(match["options"]) if f'"{o}"' not in known}
        else:
            recipe = recipe_of(path, match["folder"])
            if recipe is None:
                continue
            missing = options_in(match["recipe_options"]) - options_in(recipe_help(recipe))
        assert not missing, f"{match[0]}: {missing}"
