"""The page of families lists those of the code, and says of each what holds."""

import re
from pathlib import Path

from espnet_prune.structured.families import FAMILIES
from test.espnet_prune.structured.families.zoo import ZOO

PAGE = Path(__file__).resolve().parents[2] / "docs" / "families.md"


def test_the_table_is_that_of_the_code():
    rows = re.findall(r"^\| `(\S+)` \|.*\| (\S+) \| (\S+) \|$", PAGE.read_text(), re.MULTILINE)
    assert {name for name, *_ in rows} == set(FAMILIES) == {name.split()[0] for name in ZOO}
    for name, _, export in rows:
        assert (export == "yes") is bool(FAMILIES[name].stock_sizes), name
