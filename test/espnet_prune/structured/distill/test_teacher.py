import pytest
import torch

from espnet_prune.structured import load_encoder
from espnet_prune.structured.distill.teacher import Teacher
from test.espnet_prune.tiny import LAYOUTS, batch, saved


@pytest.fixture(params=LAYOUTS)
def encoder(request, tmp_path):
    return load_encoder(saved(request.param, tmp_path))


@torch.no_grad()
def hidden_states(encoder, full_window=True):
    """The last one behind the final norm."""
    out = encoder(*batch(), full_window)
    return [*out.hidden_states[:-1], out.last_hidden_state]


@pytest.mark.parametrize("full_window", [True, False])
def test_only_the_states_asked_for(encoder, full_window):
    want = hidden_states(encoder, full_window)
    found = Teacher(encoder.train())(encoder.prepare(*batch(), full_window), [3, 0])
    assert set(found) == {0, 3}
    for number, state in found.items():
        assert torch.equal(state, want[number]) and not state.requires_grad


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_low_precision_is_close_and_keeps_its_weights_so(encoder, dtype):
    want = hidden_states(encoder)
    inputs = encoder.prepare(*batch())
    teacher = Teacher(encoder, dtype)
    found = teacher(inputs, range(4))
    tolerance = {"bfloat16": 0.05, "float16": 0.01}[dtype]
    for number, state in found.items():
        error = (state - want[number]).norm() / want[number].norm()
        assert 0 < error < tolerance, number
    types = {str(p.dtype) for p in encoder.parameters() if p.dim() > 1}
    assert f"torch.{dtype}" in types
    assert all(p.dtype == torch.float32 for n, p in encoder.named_parameters() if "norm" in n)


def test_float32_stays_so_under_autocast(tmp_path):
    encoder = load_encoder(saved("wavlm-base", tmp_path))
    want = hidden_states(encoder)
    with torch.autocast("cpu", torch.bfloat16):
        inputs = encoder.prepare(*batch())
        low = Teacher(encoder)(inputs, [3])[3]
        full = Teacher(encoder, "float32")(inputs, [3])[3]
    assert torch.equal(full, want[3]) and not torch.equal(low, want[3])
