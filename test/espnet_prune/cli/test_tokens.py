"""`espnet-prune tokens`; `evaluate/test_token_cost.py` has `profile`."""

from espnet_prune import speech_llm
from espnet_prune.cli import main, options
from espnet_prune.tokens import STRATEGIES


def test_strategies_have_a_line_each(capsys):
    main(["tokens", "strategies"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(STRATEGIES)
    assert all(line.endswith(".") and len(line.split()) > 3 for line in lines)


def test_help_names_all_speech_llms():
    assert options.SPEECH_LLMS.replace(" or ", ", ").split(", ") == list(speech_llm.SPEECH_LLMS)
