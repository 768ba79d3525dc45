import pytest

from espnet_prune.evaluate.sir import conditions
from espnet_prune.evaluate.sir.conditions import (
    FIRST_30_S,
    HEARD,
    NOTHING,
    TRANSCRIPT,
    WHOLE,
    Condition,
)


def test_a_grid_has_its_references_and_nothing_twice():
    found = conditions.grid(["rap", "none", "crop"], [0.0, 0.5])
    rap = [Condition(strategy="rap", rate=rate) for rate in (0.0, 0.5)]
    half = Condition(strategy="crop", rate=0.5)
    assert found == [WHOLE, FIRST_30_S, TRANSCRIPT, NOTHING, *rap, half]
    found = conditions.grid(["rap"], [0.0, 0.5], recognises=True)
    assert found == [WHOLE, FIRST_30_S, TRANSCRIPT, HEARD, NOTHING, *rap]


def test_names():
    names = [c.name for c in conditions.grid(["rap"], [0.2])]
    assert names == ["none", "crop 0", "transcript", "nothing", "rap 0.2"]
    assert conditions.single("rac", {"keep": 150}).name == "rac 150 tokens"


def test_a_single_one_and_its_pruner():
    condition = conditions.single("speechprune", {"rate": 0.2, "seed": 3})
    found = conditions.pruner(condition, {"rate": 0.3, "seed": 3})
    assert (found.strategy, found.rate, found.seed) == ("speechprune", 0.2, 3)
    found = conditions.pruner(condition, {"window": 100})
    assert found.kept_tokens(1000) == 80
    assert conditions.single("none", {"rate": 0.3}) == WHOLE


@pytest.mark.parametrize(
    ("strategies", "rates", "message"),
    [
        (["magic"], [0.2], "unknown strategy 'magic', choose from none, speechprune"),
        (["rap"], [1.0], r"rate is 1.0, but has to be in \[0, 1\)"),
        (["rap"], [-0.1], "has to be in"),
        (["none"], [1.0], r"rate is 1.0, but has to be in \[0, 1\)"),
        ([], [0.2], "one strategy and one rate"),
        (["rap"], [], "one strategy and one rate"),
    ],
)
def test_wrong_grids(strategies, rates, message):
    with pytest.raises(ValueError, match=message):
        conditions.grid(strategies, rates)


def test_unknown_keys():
    with pytest.raises(ValueError, match="token_pruner_conf: unknown key 'ratio'"):
        conditions.single("rap", {"ratio": 0.2})
