import onnxruntime
import pytest
import torch

from espnet_prune.bin import export_onnx
from espnet_prune.structured import load_encoder, slim
from test.espnet_prune.tiny import random_masks, saved


@pytest.fixture
def pruned(tmp_path):
    def make(layout):
        encoder = load_encoder(saved(layout, tmp_path / "dense"))
        masks = random_masks(encoder.plan(), torch.Generator().manual_seed(0))
        slim(encoder, masks).save_pretrained(tmp_path / "pruned")
        return tmp_path / "pruned"

    return make


@pytest.mark.parametrize("layout", ["whisper", "wavlm-base", "hubert-large"])
def test_onnx_runtime_gives_what_torch_gives(pruned, layout, tmp_path, capsys):
    model, output = pruned(layout), tmp_path / "out" / "model.onnx"
    every = ["--all_layers", "true"] if layout == "whisper" else []
    export_onnx.main(["--model", str(model), "--output", str(output), *every])
    assert "differs from torch by" in capsys.readouterr().out
    speech = torch.randn(1, 9123, generator=torch.Generator().manual_seed(3))
    found = onnxruntime.InferenceSession(str(output)).run(None, {"speech": speech.numpy()})
    with torch.no_grad():
        wanted = load_encoder(model).eval()(speech, full_window=False)
    states = wanted.hidden_states if every else [wanted.last_hidden_state]
    assert len(found) == len(states)
    for a, b in zip(found, states, strict=True):
        assert (torch.tensor(a) - b).abs().max() < 1e-4
    assert [path.name for path in output.parent.iterdir()] == ["model.onnx"]


def test_an_output_that_differs_is_not_written(pruned, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(export_onnx, "TOLERANCE", -1.0)
    output = tmp_path / "out" / "model.onnx"
    with pytest.raises(SystemExit):
        export_onnx.main(["--model", str(pruned("hubert-large")), "--output", str(output)])
    assert "differs from torch's" in capsys.readouterr().err
    assert not list(output.parent.iterdir())
