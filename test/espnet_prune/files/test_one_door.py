"""Files are written through `files.writing` and `files.growing`: what is proved there (a full disk,
a kill, a reader at the same time) then holds for every writer."""

import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[3] / "espnet_prune"
WRITERS = re.compile(
    r"\.write_(?:text|bytes)\(|open\([^)\n]*[\"'][wax]b?[\"']|np\.savez?\(|torch\.save\(|save_file\("
    r"|soundfile\.write\(|savefig\(|json\.dump\(|save_pretrained\(|onnx\.export\(|shutil\.copy"
)
THROUGH = re.compile(r"write_file\(|>>> ")
#: file -> what its own writing is; all of these are swapped into place, or are no results
OWN = {
    "data/audio.py": "into memory, before the door",
    "data/data_dir.py": "copies of a user's tables, before they are mended",
    "data/recordings.py": "what write_file is given",
    "data/voices.py": "a temporary folder",
    "hub/offline/ctranslate2_whisper.py": "a folder that hub.pretrained swaps",
    "hub/offline/gguf.py": "a folder that hub.pretrained swaps",
    "hub/packages.py": "a folder that hub.pretrained swaps",
    "launch/jobs.py": "logs, and the script of a job",
    "launch/sweeps.py": "logs",
    "plugin/trainer.py": "torch.save, which atomic_torch_save replaces",
    "speech_llm/serve/engine.py": "a folder beside, which is swapped",
    "speech_llm/serve/requests.py": "into memory",
    "structured/cost/measure.py": "the kernel's counter of memory",
    "structured/encoder_directory.py": "a folder beside, which is swapped",
    "structured/export/onnx.py": "what write_file is given",
    "structured/export/transformers.py": "a folder beside, which is renamed",
}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=str)
def test_no_other_door(path):
    name = path.relative_to(PACKAGE).as_posix()
    if name.startswith("files/"):
        return
    found = [
        line.strip()
        for line in path.read_text().splitlines()
        if WRITERS.search(line) and not THROUGH.search(line) and "lambda" not in line
    ]
    if name in OWN:
        assert found, f"{name} writes nothing by itself any more: take it out of OWN"
    else:
        assert not found, f"{name} writes a file by itself: {found}; go through files.writing"
