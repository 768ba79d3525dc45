"""Each code block of the README and of the tutorials, run as a reader would, in order.

A document's blocks run in one directory and its Python blocks in one namespace. A block of YAML is
written to the file that its first line names. Small random models and some noise stand where the
text says that models and audio are. A block that takes hours, or the network, is marked

    <!-- run by: FILE: TEXT, TEXT -->

and then each TEXT has to be both in the block and in FILE, the test or script that runs it.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import pytest
import soundfile
import yaml
from transformers import WhisperConfig, WhisperModel

from espnet_prune.tokens.strategies import STRATEGIES

ROOT = Path(__file__).resolve().parents[2]
RUN = ["README.md", "docs/tutorials/structured_pruning.md", "docs/tutorials/token_pruning.md"]
RUN += ["docs/extending.md"]
DOCUMENTS = [*RUN, "docs/superb.md", "docs/serving.md", "CONTRIBUTING.md"]
BLOCK = re.compile(
    r"(?:^<!-- run by: (?P<by>[^\n]*?) -->\n)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.M | re.S
)


class Block(NamedTuple):
    """A fenced block: its language, text, line, and what runs it if this test does not."""

    kind: str
    text: str
    line: int
    run_by: str | None


def blocks(document: str) -> list[Block]:
    text = (ROOT / document).read_text(encoding="utf-8")
    return [
        Block(m["kind"], m["text"], text[: m.start("text")].count("\n") + 1, m["by"])
        for m in BLOCK.finditer(text)
    ]


def noise(path: Path, seconds: float, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).normal(0, 0.1, int(16000 * seconds))
    soundfile.write(path, samples.astype(np.float32), 16000)
    return path


def data_dir(folder: Path, texts: list[str]) -> None:
    tables = {"wav.scp": "", "text": "", "utt2spk": ""}
    for number, text in enumerate(texts):
        name = f"utt{number}"
        audio = noise(folder / "audio" / f"{name}.wav", 1.0 + 0.2 * number, number)
        for table, value in (("wav.scp", audio), ("text", text), ("utt2spk", name)):
            tables[table] += f"{name} {value}\n"
    for table, lines in tables.items():
        (folder / table).write_text(lines)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A directory with small random models under the names of the text."""
    from test.espnet_prune.evaluate.sir.stand_in import save_speech_llm

    folder = tmp_path_factory.mktemp("models")
    config = WhisperConfig(
        d_model=16,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=24,
        decoder_ffn_dim=8,
        max_source_positions=100,
        vocab_size=60,
        pad_token_id=0,
    )
    WhisperModel(config).save_pretrained(folder / "openai/whisper-tiny.en")
    save_speech_llm(folder / "Qwen/Qwen2-Audio-7B-Instruct")
    return folder


@pytest.fixture()
def place(models, tmp_path, monkeypatch) -> Iterator[Path]:
    """The reader's directory."""
    from test.espnet_prune.evaluate.sir.stand_in import save_data_dir

    for name in ("openai", "Qwen"):
        (tmp_path / name).symlink_to(models / name)
    for number in range(3):
        noise(tmp_path / "my_audio" / f"{number}.wav", 2.0, number)
    data_dir(tmp_path / "data/train", ["a cat", "a dog", "the cat", "the dog"])
    data_dir(tmp_path / "data/dev", ["a cat", "the dog"])
    save_data_dir(tmp_path / "data/questions_set")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    # a reader's own strategy ends with the document: other tests go through the table
    with mock.patch.dict(STRATEGIES):
        yield tmp_path


@pytest.mark.parametrize("document", RUN)
def test_blocks_run(document, place):
    namespace: dict = {"__name__": "__main__"}
    for kind, text, line, run_by in blocks(document):
        if run_by or kind in ("", "bibtex"):
            continue
        if kind == "python":
            exec(compile("\n" * (line - 1) + text, str(ROOT / document), "exec"), namespace)
        elif kind == "yaml":
            name = re.match(r"# (\S+\.yaml)\n", text)
            assert name, f"{document}:{line}: the first line has to name the file"
            assert isinstance(yaml.safe_load(text), dict)
            (place / name[1]).parent.mkdir(parents=True, exist_ok=True)
            (place / name[1]).write_text(text)
        else:
            assert kind == "sh", f"{document}:{line}: a block of {kind}"
            done = subprocess.run(
                ["bash", "-e", "-u", "-o", "pipefail", "-c", text], capture_output=True, text=True
            )
            assert done.returncode == 0, f"{document}:{line}: {(done.stdout + done.stderr)[-3000:]}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_other_blocks_are_run_elsewhere(document):
    for _, text, line, run_by in blocks(document):
        if run_by is None:
            assert document in RUN, f"{document}:{line}: nothing runs this block"
            continue
        file, _, parts = run_by.partition(": ")
        assert parts, f"{document}:{line}: 'run by' names no text"
        runner = (ROOT / file).read_text(encoding="utf-8")
        for part in parts.split(", "):
            assert part in text, f"{document}:{line}: {part} is not in the block"
            assert part in runner, f"{document}:{line}: {part} is not in {file}"
