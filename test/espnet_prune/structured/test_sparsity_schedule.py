import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from espnet_prune.structured.gates import HardConcrete, prob_nonzero
from espnet_prune.structured.sparsity_schedule import Lagrangian, ramped_target


@given(st.floats(0, 0.99), st.integers(0, 500), st.integers(1, 400))
def test_ramp_is_linear_then_constant(target, update, ramp):
    assert ramped_target(target, update, ramp) == pytest.approx(target * min(1, update / ramp))
    assert ramped_target(target, update, 0) == target


@pytest.mark.parametrize("target", [-0.1, 1.0, 1.5])
def test_target_outside_its_range(target):
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        ramped_target(target, 0, 10)


def test_penalty_and_ascent():
    lagrangian = Lagrangian()
    with torch.no_grad():
        lagrangian.lambda1.fill_(2.0)
        lagrangian.lambda2.fill_(3.0)
    value = lagrangian(torch.tensor(0.7), 0.5)
    assert value.item() == pytest.approx(2 * 0.2 + 3 * 0.04)
    optimizer = torch.optim.SGD(lagrangian.parameters(), lr=1.0, maximize=True)
    value.backward()
    optimizer.step()
    assert lagrangian.lambda1.item() == pytest.approx(2.2)  # too sparse: sparsity costs more now
    assert lagrangian.lambda2.item() == pytest.approx(3.04)


def test_lagrangian_drives_gates_to_the_target():
    gates, lagrangian = HardConcrete(200, init=3.0), Lagrangian()
    optimizer = torch.optim.Adam(
        [
            {"params": gates.parameters(), "lr": 0.05},
            {"params": lagrangian.parameters(), "lr": 0.05, "maximize": True},
        ]
    )
    for update in range(800):
        sparsity = 1 - prob_nonzero(gates.log_alpha).mean()
        loss = lagrangian(sparsity, ramped_target(0.6, update, 200))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert sparsity.item() == pytest.approx(0.6, abs=0.05)
