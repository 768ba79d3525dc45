"""Subsequence DTW against all paths, against SciPy's distances, and on planted queries."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from espnet_prune.evaluate.superb.dtw import (
    Queries,
    local_costs,
    normalise_scores,
    subsequence_costs,
)


def best_of_all_paths(costs: np.ndarray) -> float:
    """The least sum over a row for each query frame, whose column goes on by 0, 1 or 2."""
    rows, columns = costs.shape
    best = np.inf
    for start in range(columns):
        for steps in itertools.product(range(3), repeat=rows - 1):
            path = np.cumsum([start, *steps])
            if path[-1] < columns:
                best = min(best, costs[np.arange(rows), path].sum())
    return best / rows


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_least_cost_of_all_paths(data):
    sizes = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    columns = data.draw(st.integers(1, 6))
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    costs = generator.random((len(sizes), max(sizes), columns)).round(1)
    found = subsequence_costs(torch.from_numpy(costs), torch.tensor(sizes))
    expected = [best_of_all_paths(c[:size]) for c, size in zip(costs, sizes, strict=True)]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


def test_dtw_python_agrees():
    dtw = pytest.importorskip("dtw", reason="dtw-python is not installed").dtw
    costs = np.random.default_rng(0).random((4, 12, 30))
    expected = [
        dtw(x=c, step_pattern="asymmetric", open_begin=True, open_end=True).normalizedDistance
        for c in costs
    ]
    found = subsequence_costs(torch.from_numpy(costs), torch.full((4,), 12))
    np.testing.assert_allclose(found.numpy(), expected)


def test_costs_of_frames():
    generator = np.random.default_rng(0)
    query, document = generator.normal(size=(4, 6)), generator.normal(size=(9, 6))
    expected = np.exp(cdist(query, document, "cosine")) - 1
    least, most = expected.min(1, keepdims=True), expected.max(1, keepdims=True)
    found = local_costs(torch.from_numpy(query)[None], torch.from_numpy(document))
    np.testing.assert_allclose(found[0].numpy(), (expected - least) / (most - least), atol=1e-9)
    alike = local_costs(torch.ones(1, 2, 3), torch.ones(4, 3))
    assert torch.equal(alike, torch.zeros(1, 2, 4))  # not 0 / 0


def test_planted_queries_are_found():
    torch.manual_seed(0)
    documents = [torch.randn(length, 8) for length in (40, 60, 50, 80)]
    # Every other frame of a part; each frame twice; too short to be searched for; nothing
    frames = [
        documents[1][10:30:2] + 0.1 * torch.randn(10, 8),
        documents[3][20:28].repeat_interleave(2, dim=0),
        documents[0][:4],
        torch.zeros(0, 8),
    ]
    queries = Queries(frames, torch.zeros(8), torch.ones(8))
    scores = torch.stack([queries.scores(document) for document in documents], dim=1)
    assert scores.shape == (4, 4) and queries.searched == [True, True, False, False]
    assert scores[:2].argmax(dim=1).tolist() == [1, 3]
    assert scores[1, 3] == pytest.approx(0, abs=1e-5)  # the very frames
    assert not scores[2:].any()
    none = Queries(frames[2:], torch.zeros(8), torch.ones(8))
    assert not none.scores(documents[0]).any()


def test_frames_are_normalised():
    torch.manual_seed(0)
    mean, std = torch.randn(8), torch.rand(8) + 0.5
    query, document = torch.randn(6, 8), torch.randn(20, 8)
    plain = Queries([query], torch.zeros(8), torch.ones(8)).scores(document)
    moved = Queries([query * std + mean], mean, std).scores(document * std + mean)
    torch.testing.assert_close(plain, moved)


def test_scores_of_each_query():
    scores = normalise_scores(torch.tensor([[1.0, 2.0, 3.0], [5.0, 5.0, 5.0]]))
    root = (3 / 2) ** 0.5  # 1 / standard deviation
    torch.testing.assert_close(scores, torch.tensor([[-root, 0.0, root], [0.0, 0.0, 0.0]]))
