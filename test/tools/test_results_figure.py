"""tools/results_figure.py reads the tables of the RESULTS.md files."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("results_figure", ROOT / "tools/results_figure.py")
figure = importlib.util.module_from_spec(spec)
spec.loader.exec_module(figure)


def test_value_and_interval():
    assert figure.value("92.5 [91.4, 93.6] (91.6 to 93.0)") == (92.5, 91.4, 93.6)
    assert figure.value("100.0 [100.0, 100.0]") == (100.0, 100.0, 100.0)
    with pytest.raises(ValueError, match="'47.0' is no value with an interval"):
        figure.value("47.0")


def test_a_table_is_found_by_its_first_column(tmp_path):
    file = tmp_path / "RESULTS.md"
    file.write_text("# R\n\n| x | y |\n|---|---|\n| a | 1 |\n\n| z | y |\n|---|---|\n| a | 2 |\n")
    assert figure.read_table(file, "z") == {"a": {"z": "a", "y": "2"}}
    with pytest.raises(ValueError, match="no table whose first column is 'w'"):
        figure.read_table(file, "w")


def test_the_curves_have_all_their_points():
    points = figure.encoders("test_joe")
    assert {curve: len(p) for curve, p in points.items()} == {
        "one shot and distillation": 4,
        "one shot alone": 3,
        "random and distillation": 4,
    }
    assert {len(p) for p in figure.tokens().values()} == {2}
    assert set(figure.bounds()) == {"whole recording", "first 30 s"}


def test_the_figure_is_drawn(tmp_path):
    figure.draw(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
