"""The page of speech LLMs lists those of the code, and says of each what holds."""

import re
from pathlib import Path

import pytest
import transformers
from packaging.version import Version

from espnet_prune.speech_llm.families import FAMILIES
from espnet_prune.speech_llm.serve.requests import TAKE_AUDIO
from espnet_prune.structured.families import FAMILIES as ENCODERS
from test.espnet_prune.speech_llm.scattered import BY_NAME

PAGE = Path(__file__).resolve().parents[2] / "docs" / "speech_llms.md"
ROWS = re.findall(
    r"^\| `(?!model_type)(\w+)` \|(.*)\|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE
)
KINDS = tuple(family.model_class for family in ENCODERS.values())


def test_the_table_has_every_family():
    assert [name for name, _ in ROWS] == list(FAMILIES)


@pytest.mark.parametrize(("name", "row"), ROWS, ids=[name for name, _ in ROWS])
def test_a_row_is_what_the_code_does(name, row):
    _, kind, rate, adapter, served, encoder = (cell.strip() for cell in row.split("|"))
    family = FAMILIES[name]
    assert kind == f"`{family.model}`"
    assert float(rate) == pytest.approx(family.window / 30)
    ids_only = family.prompt != "embeddings"
    assert adapter.startswith("no") == ids_only == served.startswith("nothing")
    assert (served == "audio tokens") == (name in TAKE_AUDIO)
    assert BY_NAME[family.model].sees_batch == (name == "qwen3_omni_moe_thinker")
    modules = BY_NAME[family.model].model().modules()
    assert (encoder == "yes") == any(type(module) in KINDS for module in modules)


@pytest.mark.skipif(Version(transformers.__version__) < Version("5.23"), reason="has fewer models")
def test_models_that_are_not_taken_exist():
    said = PAGE.read_text(encoding="utf-8").partition("## What is not taken")[2]
    names = re.findall(r"`(\w+(?:ForConditionalGeneration|_V3))`", said)
    assert len(names) == 12 and all(hasattr(transformers, name) for name in names)
    assert not set(names) & {family.model for family in FAMILIES.values()}
