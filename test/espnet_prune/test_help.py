"""Every `--help` of the command says what it does, and imports nothing heavy to say so."""

import json
import subprocess
import sys

import pytest

HEAVY = {
    "espnet",
    "espnet2",
    "espnetez",
    "matplotlib",
    "numpy",
    "scipy",
    "sklearn",
    "soundfile",
    "torch",
    "torchaudio",
    "transformers",
}
# All of it in one process: what any of them has imported is then seen at the end.
SHOW_ALL = """
import contextlib, importlib, io, json, sys
from espnet_prune.cli import NOUNS, main

def shown(*words):
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main([*words, "--help"])
    return out.getvalue()

texts = [["", "", shown()]]
for noun in NOUNS:
    verbs = importlib.import_module(f"espnet_prune.cli.{noun}").VERBS
    if "" not in verbs:
        texts.append([noun, "", shown(noun)])
    for verb in verbs:
        texts.append([noun, verb, shown(*[noun, verb][: 2 if verb else 1])])
json.dump({"texts": texts, "modules": sorted(sys.modules)}, sys.stdout)
"""


@pytest.fixture(scope="module")
def shown():
    done = subprocess.run([sys.executable, "-c", SHOW_ALL], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def test_help_imports_nothing_heavy(shown):
    assert not HEAVY.intersection(shown["modules"])


def test_each_help_begins_with_a_sentence(shown):
    assert len(shown["texts"]) > 50
    wrong = []
    for noun, verb, text in shown["texts"]:
        usage, _, rest = text.partition("\n\n")
        sentence = rest.partition("\n\n")[0]
        named = usage.startswith(f"usage: espnet-prune {noun} {verb}".rstrip())
        if verb or noun == "env":
            named = named and sentence[:1].isupper() and sentence.endswith(".")
        if not named:
            wrong.append(f"{noun} {verb}: {text[:200]}")
    assert not wrong, "\n".join(wrong)


def test_the_overviews_list_all(shown):
    texts = {(noun, verb): text for noun, verb, text in shown["texts"]}
    for noun, verb in texts:
        assert f"\n  {noun}" in texts["", ""]
        if noun and verb:
            assert f"\n  {verb} " in texts[noun, ""]


def test_an_unknown_word_is_answered_with_the_known_ones():
    done = subprocess.run(
        [sys.executable, "-m", "espnet_prune", "encodre"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "unknown noun 'encodre', choose from encoder, tokens" in done.stderr
