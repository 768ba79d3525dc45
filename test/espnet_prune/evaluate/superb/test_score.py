import pytest

from espnet_prune.evaluate.superb.score import (
    METRICS,
    PUBLISHED,
    TASKS,
    published_score,
    superb_score,
)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_scores_are_reproduced(name):
    result = superb_score(PUBLISHED[name].values)
    assert abs(result.score - PUBLISHED[name].score) <= 1
    assert result.missing == []


def test_ends_of_the_scale():
    assert superb_score({name: metric.sota for name, metric in METRICS.items()}).score == 1000
    assert superb_score({name: metric.fbank for name, metric in METRICS.items()}).score == 0


def test_two_tasks_by_hand():
    # Slot filling is the mean of 1 and 1/2, QbE half of the way.
    values = {"SF-F1": 89.81, "SF-CER": (21.76 + 52.94) / 2, "QbE": (7.36 + 0.58) / 2}
    result = superb_score(values)
    assert result.tasks == pytest.approx({"QbE": 500, "SF": 750})
    assert result.score == pytest.approx(625)
    assert set(result.missing) == set(TASKS) - {"SF", "QbE"}


def test_published_score_of_fewer_tasks():
    missing = [task for task in TASKS if task != "ASV"]
    expected = 1000 * (5.98 - 9.56) / (5.11 - 9.56)
    assert published_score(PUBLISHED["DPWavLM"], missing) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "no figures"),
        ({"WER": 3.0}, "metric 'WER' is unknown"),
        ({"PR": "3.0"}, "PR: '3.0' is not a finite number"),
        ({"PR": float("nan")}, "PR: nan is not"),
        ({"PR": True}, "PR: True is not"),
        ({"PR": None}, "PR: None is not"),
        ({"KS": 101}, "KS: 101 cannot be"),
        ({"PR": -1}, "PR: -1 cannot be"),
        ({"SF-F1": 80}, "SF-CER is missing: SF needs SF-F1 and SF-CER"),
    ],
)
def test_errors(values, message):
    with pytest.raises(ValueError, match=message):
        superb_score(values)


def test_possible_extremes():
    assert superb_score({"PR": 120}).score < 0  # more insertions than phones
    assert superb_score({"QbE": -5}).score < 0
