import importlib
import inspect

import pytest

from espnet_prune.cli import main
from espnet_prune.cli.corpus import CORPORA, VERBS
from test.espnet_prune.commands import error_of
from test.espnet_prune.small_corpora import fsdd


@pytest.mark.parametrize("name", CORPORA)
def test_options_are_the_arguments_of_the_function(name):
    module, function = CORPORA[name]["function"].split(".")
    module = importlib.import_module(f"espnet_prune.data.corpora.{module}")
    parameters = inspect.signature(getattr(module, function)).parameters
    assert {option.lstrip("-") for option in CORPORA[name]["options"]} == set(parameters)
    for option, arguments in CORPORA[name]["options"].items():
        if isinstance(arguments, dict) and "default" in arguments:
            default = parameters[option.lstrip("-")].default
            assert default is inspect.Parameter.empty or list_of(default) == list_of(
                arguments["default"]
            )


def list_of(value):
    return list(value) if isinstance(value, tuple | list) else value


def test_help_and_numbers(tmp_path, capsys):
    for name in VERBS:
        with pytest.raises(SystemExit) as ended:
            main(["corpus", name, "--help"])
        assert ended.value.code == 0
        assert CORPORA[name]["help"] in " ".join(capsys.readouterr().out.split())
    corpus, out = fsdd(tmp_path / "corpus"), tmp_path / "data"
    for _ in range(2):  # the table is not used up
        main(["corpus", "fsdd_speakers", str(corpus), str(out)])
        assert f"{out}/train: " in capsys.readouterr().out
    error = error_of(capsys, "corpus", "librispeech", tmp_path, out, "--train_hours", "100")
    assert "has no LibriSpeech/dev-clean" in error
