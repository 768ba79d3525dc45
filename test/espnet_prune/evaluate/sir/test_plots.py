import numpy as np
import pytest

from espnet_prune.evaluate.sir.plots import plot_tokens, tsne


def clouds(*sizes, width=12):
    """Tight groups of directions, each at a length of its own."""
    generator = np.random.default_rng(0)
    return {
        f"g{n}": 10.0**n * (np.eye(width)[n] + 0.05 * generator.normal(size=(size, width)))
        for n, size in enumerate(sizes)
    }


def test_what_is_alike_lies_together():
    groups = clouds(40, 30, 10)
    points = tsne(groups)
    assert {name: rows.shape for name, rows in points.items()} == {
        "g0": (40, 2),
        "g1": (30, 2),
        "g2": (10, 2),
    }
    centres = {name: rows.mean(0) for name, rows in points.items()}
    for name, rows in points.items():
        for row in rows:
            nearest = min(centres, key=lambda other: np.linalg.norm(row - centres[other]))
            assert nearest == name


def test_the_same_every_time_and_lengths_do_not_matter():
    groups = clouds(20, 20, 3)
    points = tsne(groups, seed=1)
    again = tsne({name: 2.0 * rows for name, rows in groups.items()}, seed=1)
    for name, rows in points.items():
        np.testing.assert_allclose(again[name], rows, atol=1e-3)


def test_plot(tmp_path):
    path = tmp_path / "images" / "tsne.png"
    plot_tokens(tsne(clouds(0, 8, 4)), path, "a, speechprune 0.2")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_too_few():
    with pytest.raises(ValueError, match="4 tokens are too few"):
        tsne(clouds(3, 1))
