"""What the README reports stands in the RESULTS.md files, and these lead nowhere else."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = sorted(ROOT.glob("egs[23]/*/*/RESULTS.md"))
TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *RESULTS]
TEXTS += [*ROOT.glob("egs[23]/*/*/README.md"), *ROOT.glob("docs/**/*.md")]


def test_each_figure_of_the_readme_stands_in_a_results_file():
    reported = README[README.index("## Results") : README.index("## Where things are")]
    cells = [
        cell.strip()
        for line in reported.splitlines()
        if line.startswith("|")
        for cell in line.strip("|").split("|")
    ]
    cells = [cell for cell in cells if re.match(r"\d+\.\d", cell)]
    assert len(cells) > 20
    known = " ".join(path.read_text(encoding="utf-8") for path in RESULTS)
    for cell in cells:
        assert re.search(rf"(?<![\d.]){re.escape(cell)}(?![\d.])", known), cell


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: "/".join(path.parts[-3:-1]))
def test_results_name_command_machine_and_runs(path):
    text = " ".join(path.read_text(encoding="utf-8").split())
    assert (
        "```sh" in text
        and re.search(r"Python 3\.1[13]", text)
        and re.search(r"[Oo]ne run|\d runs", text)
    )


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#\s]+)\)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_paths_in_the_text_exist(path):
    folders = r"(?:espnet_prune|tools|docs|test/(?:espnet_prune|recipes|tools|docs))"
    for name in re.findall(rf"(?<![\w./]){folders}/[\w./-]+\w", path.read_text(encoding="utf-8")):
        if not name.startswith(("tools/venv", "tools/.")):
            assert (ROOT / name).exists(), name
