"""The notebooks run from the first cell to the last, offline."""

import json
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


@pytest.mark.parametrize("name", ["structured_pruning", "token_pruning"])
def test_notebook_runs(name, tmp_path, monkeypatch):
    import matplotlib
    from matplotlib import pyplot

    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    cells = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    namespace: dict = {"__name__": "__main__"}
    for number, cell in enumerate(cells):
        if cell["cell_type"] == "code":
            assert not cell["outputs"], f"cell {number}: clear its outputs before it is committed"
            code = "".join(cell["source"])
            exec(compile(code, f"{name}.ipynb, cell {number}", "exec"), namespace)
    assert pyplot.get_fignums()
    pyplot.close("all")
