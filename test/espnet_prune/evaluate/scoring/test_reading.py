"""Files of scores and arrays that lie: numbers that are none, headers that announce too much."""

import numpy as np
import pytest

from espnet_prune.data.rttm import read_rttm
from espnet_prune.evaluate.scoring.reading import load_array
from espnet_prune.evaluate.scoring.search import read_trials
from espnet_prune.evaluate.scoring.verification import read_scores


def test_an_array_is_read_as_it_is(tmp_path):
    for array in (np.arange(6.0).reshape(2, 3), np.zeros((0, 2))):
        np.save(tmp_path / "a.npy", array)
        found = load_array(tmp_path / "a.npy")
        assert type(found) is np.ndarray and np.array_equal(found, array)


@pytest.mark.parametrize("shape", [b"(10**13,)", b"(9999999999999,)", b"(9999999999999999999999,)"])
def test_a_header_that_announces_more_than_there_is(tmp_path, shape):
    np.save(tmp_path / "a.npy", np.arange(1000.0))
    content = (tmp_path / "a.npy").read_bytes()
    header, rest = content[:128], content[128:]
    changed = header.replace(b"(1000,)", shape)
    (tmp_path / "a.npy").write_bytes(changed[:127].ljust(127) + b"\n" + rest)
    with pytest.raises(ValueError, match="a.npy: not a .npy file of numbers"):
        load_array(tmp_path / "a.npy")


def test_what_holds_no_numbers(tmp_path):
    np.savez(tmp_path / "b", a=np.zeros(3))
    (tmp_path / "b.npz").rename(tmp_path / "a.npy")
    with pytest.raises(ValueError, match="a.npy: not a .npy file of numbers: it holds something"):
        load_array(tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", np.array(["x"]))
    with pytest.raises(ValueError, match="a.npy: not a .npy file of numbers: it holds something"):
        load_array(tmp_path / "a.npy")


@pytest.mark.parametrize("score", ["nan", "inf", "-inf", "1e999"])
def test_scores_that_are_no_numbers(tmp_path, score):
    (tmp_path / "ref").write_text("q d\n")
    (tmp_path / "scores").write_text(f"q d {score}\n")
    with pytest.raises(ValueError, match="scores: line 1: not 'query document score'"):
        read_trials(tmp_path / "ref", tmp_path / "scores")
    (tmp_path / "scores").write_text(f"a*b {score}\n")
    with pytest.raises(ValueError, match=r"scores: a\*b: '.*' is not a score"):
        read_scores(tmp_path / "scores", ["a*b"])


@pytest.mark.parametrize("times", ["inf 1", "nan 1", "0 nan", "1e308 1e308"])
def test_times_that_are_none(tmp_path, times):
    (tmp_path / "r").write_text(f"SPEAKER a 1 {times} <NA> <NA> s <NA> <NA>\n")
    with pytest.raises(ValueError, match="r: line 1: not 'SPEAKER"):
        read_rttm(tmp_path / "r")
