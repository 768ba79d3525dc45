"""ONNX Runtime gives what torch gives, for every family, from 0.1 to 30 s and batches of 1 to 5."""

import dataclasses

import onnxruntime
import pytest
import torch

from espnet_prune.cli import main
from espnet_prune.structured import load_encoder, slim
from espnet_prune.structured.export import onnx
from espnet_prune.structured.export.onnx import export_onnx
from espnet_prune.structured.families import FAMILIES
from test.espnet_prune.structured.families.zoo import ZOO
from test.espnet_prune.tiny import random_masks

#: seconds and batch
SIZES = ((0.1, 5), (0.37, 4), (1.0, 1), (7.3, 2), (30.0, 3))


@torch.no_grad()
@pytest.mark.parametrize("name", FAMILIES)
def test_a_pruned_model_of_every_family(name, tmp_path):
    tiny = ZOO[name]
    if "max_source_positions" in tiny.config:
        tiny = dataclasses.replace(tiny, config={**tiny.config, "max_source_positions": 1500})
    tiny.make().save_pretrained(tmp_path)
    dense = load_encoder(tmp_path)
    small = slim(dense, random_masks(dense.plan(), torch.Generator().manual_seed(2), coarse=0.9))
    with torch.enable_grad():
        export_onnx(small, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    for seconds, count in SIZES:
        generator = torch.Generator().manual_seed(count)
        speech = 0.1 * torch.randn(count, round(16000 * seconds), generator=generator)
        wanted = small(speech, full_window=False).last_hidden_state
        (found,) = session.run(None, {"speech": speech.numpy()})
        errors = (torch.from_numpy(found) - wanted).abs() / wanted.abs().max()
        if "feature_extractor" in FAMILIES[name].front:
            assert errors.max() < 1e-5, (seconds, count)
        else:
            # Of a bin near zero float32 has little but rounding, and its logarithm shows it: the
            # log-mel of 30 s of noise is 5e-7 off float64 in the mean, and 0.03 in one bin
            assert errors.mean() < 1e-5 and errors.max() < 1e-3, (seconds, count)
        assert found.shape == wanted.shape


@torch.no_grad()
def test_weights_beside_the_graph(tmp_path, monkeypatch, capsys):
    """As of models of 2 GB and more, which protobuf cannot hold."""
    ZOO["data2vec-audio"].make().save_pretrained(tmp_path / "dense")
    file = tmp_path / "out" / "model.onnx"
    command = ["encoder", "export", "--model", str(tmp_path / "dense"), "--output", str(file)]
    monkeypatch.setattr(onnx, "LARGE", 1)
    with torch.enable_grad():
        main(command)
    names = ["model.onnx", "model.onnx.data"]
    assert sorted(each.name for each in file.parent.iterdir()) == names
    small, large = (each.stat().st_size for each in sorted(file.parent.iterdir()))
    assert f"{(small + large) / 1e6:.1f} MB" in capsys.readouterr().out
    session = onnxruntime.InferenceSession(str(file))
    speech = 0.1 * torch.randn(2, 9000)
    (found,) = session.run(None, {"speech": speech.numpy()})
    wanted = load_encoder(tmp_path / "dense")(speech).last_hidden_state
    torch.testing.assert_close(torch.from_numpy(found), wanted, atol=1e-5, rtol=1e-5)
    monkeypatch.undo()
    with torch.enable_grad():
        main(command)
    assert [each.name for each in file.parent.iterdir()] == names[:1]  # nothing that misleads
