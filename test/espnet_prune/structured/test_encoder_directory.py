import json

import pytest

from espnet_prune.structured import load_encoder
from espnet_prune.structured.encoder_directory import removed_share, size_line, sizes, write_encoder


def test_a_directory_is_swapped_in_whole(tiny, tmp_path):
    encoder, output = load_encoder(tiny["whisper"]), tmp_path / "encoder"
    summary = sizes(encoder)
    write_encoder(encoder, output, summary, lambda work: (work / "kept.png").write_bytes(b"plot"))
    names = {"config.json", "model.safetensors", "summary.json", "kept.png"}
    assert {file.name for file in output.iterdir()} == names
    assert json.loads((output / "summary.json").read_text()) == summary
    assert removed_share(output) == 0 and "(0.0% fewer)" in size_line(summary)

    def fail(work):
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        write_encoder(encoder, output, add=fail)
    assert {file.name for file in output.iterdir()} == names  # the old one is untouched
    write_encoder(encoder, output)
    assert {file.name for file in output.iterdir()} == {"config.json", "model.safetensors"}
    assert load_encoder(output).kept == encoder.kept
    assert [path.name for path in tmp_path.iterdir()] == ["encoder"]


def test_other_files_are_never_deleted(tiny, tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match="holds thesis.tex, which is not part of an encoder"):
        write_encoder(load_encoder(tiny["whisper"]), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
