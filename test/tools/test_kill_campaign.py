"""tools/kill_campaign.py in a small form, and that it sees what it looks for."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("kill_campaign", ROOT / "tools/kill_campaign.py")
campaign = importlib.util.module_from_spec(spec)
sys.modules["kill_campaign"] = campaign  # its dataclass looks for it
spec.loader.exec_module(campaign)

BAD = """
import os, pathlib, time
at = pathlib.Path("text")
if at.exists():  # a rerun takes what is there for whole
    raise SystemExit
with at.open("w") as file:
    for n in range(30):
        file.write(f"{n}\\n")
        file.flush()
        time.sleep(0.05)
"""


@pytest.mark.timeout(900)
def test_two_operations_killed_twice(capsys):
    assert campaign.main(["--kills", "2", "--operations", "data preparation", "decoding"]) == 0
    table = capsys.readouterr().out.splitlines()[-4:]
    assert table[0].split() == "| operation | kills | same | differs |".split()
    for row, name in zip(table[2:], ("data preparation", "decoding"), strict=True):
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[0] == name and cells[2:] == ["2", "0"]


@pytest.mark.timeout(300)
def test_what_does_not_survive_a_kill_is_found(monkeypatch, capsys):
    monkeypatch.setattr(campaign, "OPERATIONS", {"bad": lambda inputs: [["-c", BAD]]})
    assert campaign.main(["--kills", "2"]) == 1
    shown = capsys.readouterr().out
    assert "text: not whole right after the kill" in shown and "text: differs" in shown
    assert shown.splitlines()[-1].split() == "| bad | 2 | 0 | 2 |".split()


def test_what_is_compared(tmp_path):
    torch.save(
        {"model": {"a": torch.ones(2)}, "reporter": {"time": 1}}, tmp_path / "checkpoint.pth"
    )
    first = campaign.files_of(tmp_path)
    torch.save(
        {"model": {"a": torch.ones(2)}, "reporter": {"time": 2}}, tmp_path / "checkpoint.pth"
    )
    assert campaign.files_of(tmp_path) == first
    torch.save({"model": {"a": torch.zeros(2)}, "reporter": {}}, tmp_path / "checkpoint.pth")
    assert campaign.differences(tmp_path, first) == ["checkpoint.pth: differs"]
    (tmp_path / "train.log").touch()
    (tmp_path / ".a.tmp").touch()
    assert campaign.differences(tmp_path, first)[0] == ".a.tmp: is left over"
    (tmp_path / "checkpoint.pth").unlink()
    assert "checkpoint.pth: is not there" in campaign.differences(tmp_path, first)
    assert len(campaign.differences(tmp_path, first)) == 2
