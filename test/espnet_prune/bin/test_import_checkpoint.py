import pytest
import torch

from espnet_prune.bin.import_checkpoint import main
from espnet_prune.structured import load_encoder
from test.espnet_prune.structured.checkpoints.dphubert_files import cut
from test.espnet_prune.structured.checkpoints.torchaudio_models import assert_same_states

SPEECH = torch.randn(1, 4000, generator=torch.Generator().manual_seed(5))


def run(checkpoint, output_dir):
    main(["--checkpoint", str(checkpoint), "--output_dir", str(output_dir)])


def test_directory_is_what_load_encoder_reads(tmp_path, capsys):
    content, model = cut("base", True, gain=True)
    torch.save(content, tmp_path / "pruned.pth")
    run(tmp_path / "pruned.pth", tmp_path / "encoder")
    out = capsys.readouterr().out
    assert "wavlm of dphubert format, 3 layers" in out and "already slimmed" in out
    assert_same_states(load_encoder(tmp_path / "encoder"), model, SPEECH)
    written = {p.name for p in (tmp_path / "encoder").iterdir()}
    assert written == {"config.json", "model.safetensors"}
    run(tmp_path / "pruned.pth", tmp_path / "encoder")  # again in the same place
    assert {p.name for p in tmp_path.iterdir()} == {"pruned.pth", "encoder"}


def test_errors_are_one_line_and_leave_nothing(tmp_path, capsys):
    (tmp_path / "bad.pt").write_bytes(b"no checkpoint")
    with pytest.raises(SystemExit) as error:
        run(tmp_path / "bad.pt", tmp_path / "encoder")
    assert error.value.code == 1
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'bad.pt'}: damaged")
    assert [p.name for p in tmp_path.iterdir()] == ["bad.pt"]


def test_directory_with_other_files_is_not_replaced(tmp_path, capsys):
    content, _ = cut("base", False, gain=False)
    torch.save(content, tmp_path / "pruned.pth")
    with pytest.raises(SystemExit):
        run(tmp_path / "pruned.pth", tmp_path)
    assert "holds pruned.pth, which is not from an import" in capsys.readouterr().err
    assert (tmp_path / "pruned.pth").is_file()
