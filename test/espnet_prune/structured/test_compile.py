"""`torch.compile` on slimmed models."""

import pytest
import torch

from espnet_prune.structured import load_encoder, slim
from test.espnet_prune.tiny import batch, largest_difference, random_masks, saved


@pytest.fixture(autouse=True)
def _compiler():
    from torch._inductor import config, cpp_builder, exc

    try:
        cpp_builder.get_cpp_compiler()
    except exc.InvalidCxxCompiler:
        pytest.skip(f"no C++ compiler (looked for {config.cpp.cxx})")
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.parametrize("layout", ["wavlm-base", "hubert-large", "whisper"])
def test_compiled_is_eager(layout, tmp_path):
    encoder = load_encoder(saved(layout, tmp_path))
    small = slim(encoder, random_masks(encoder.plan(), torch.Generator().manual_seed(0))).eval()
    speech, _ = batch()
    compiled = torch.compile(small)
    with torch.inference_mode():
        wanted, found = small(speech), compiled(speech)
    assert largest_difference(wanted, found) < 1e-4
