import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_prune.structured.gates import (
    BETA,
    GAMMA,
    ZETA,
    HardConcrete,
    Lagrangian,
    deterministic_gate,
    hard_concrete,
    prob_nonzero,
    ramped_target,
    stretched_concrete,
)

alphas = st.floats(-6, 6)
SAMPLES = 200_000


def draw(log_alpha: float, ste: bool = True):
    """SAMPLES draws of z and the mean gradient of z with respect to log_alpha."""
    torch.manual_seed(0)
    alpha = torch.full((SAMPLES,), log_alpha, dtype=torch.double, requires_grad=True)
    u = torch.rand(SAMPLES, dtype=torch.double).clamp(1e-9, 1 - 1e-9)
    z = hard_concrete(alpha, u, ste)
    z.sum().backward()
    return z.detach(), alpha.grad, stretched_concrete(alpha.detach(), u)


def expectation(log_alpha: torch.Tensor) -> torch.Tensor:
    """E[z] = int_0^1 P(s_bar > t) dt by the midpoint rule."""
    t = (torch.arange(20_000, dtype=torch.double) + 0.5) / 20_000
    return torch.sigmoid(log_alpha - BETA * torch.log((t - GAMMA) / (ZETA - t))).mean()


@settings(max_examples=15, deadline=None)
@given(alphas)
def test_closed_form_of_nonzero_agrees_with_sampling(log_alpha):
    z, _, _ = draw(log_alpha)
    p = float(prob_nonzero(torch.tensor(log_alpha, dtype=torch.double)))
    assert abs(float((z != 0).double().mean()) - p) < 5 * math.sqrt(p * (1 - p) / SAMPLES) + 1e-6


@settings(max_examples=15, deadline=None)
@given(alphas)
def test_mean_agrees_with_quadrature(log_alpha):
    z, _, _ = draw(log_alpha)
    wanted = float(expectation(torch.tensor(log_alpha, dtype=torch.double)))
    assert abs(float(z.mean()) - wanted) < 5 * float(z.std()) / math.sqrt(SAMPLES) + 1e-6


@settings(max_examples=15, deadline=None)
@given(st.floats(-3, 3))
def test_gradient_without_ste_is_that_of_the_mean(log_alpha):
    _, grad, _ = draw(log_alpha, ste=False)
    alpha = torch.tensor(log_alpha, dtype=torch.double, requires_grad=True)
    expectation(alpha).backward()
    error = 5 * float(grad.std()) / math.sqrt(SAMPLES) + 1e-4
    assert abs(float(grad.mean()) - float(alpha.grad)) < error


@settings(max_examples=25, deadline=None)
@given(alphas)
def test_gradients_with_and_without_ste(log_alpha):
    _, with_ste, s_bar = draw(log_alpha, ste=True)
    _, without, _ = draw(log_alpha, ste=False)
    s = (s_bar - GAMMA) / (ZETA - GAMMA)
    slope = (ZETA - GAMMA) * s * (1 - s) / BETA
    assert torch.allclose(with_ste, slope, atol=1e-9)
    inside = (s_bar > 0) & (s_bar < 1)
    assert torch.allclose(without, slope * inside, atol=1e-9)


@given(alphas)
def test_forward_value_does_not_depend_on_ste(log_alpha):
    u = torch.linspace(0.001, 0.999, 101)
    alpha = torch.full((101,), log_alpha)
    a, b = hard_concrete(alpha, u, True), hard_concrete(alpha, u, False)
    assert torch.allclose(a, b, atol=1e-6) and b.min() >= 0 and b.max() <= 1


def test_deterministic_gate_is_monotone_and_reaches_both_ends():
    z = deterministic_gate(torch.linspace(-6, 6, 101))
    assert z[0] == 0 and z[-1] == 1 and bool((z.diff() >= 0).all())
    assert deterministic_gate(torch.zeros(1)).item() == pytest.approx(0.5)


def test_module_draws_in_training_and_not_in_evaluation():
    gates = HardConcrete(1000, init=0.0)
    torch.manual_seed(1)
    a, b = gates(), gates()
    assert not torch.equal(a, b) and bool((a == 0).any()) and bool((a == 1).any())
    gates.eval()
    assert torch.equal(gates(), gates())


def test_initial_noise_follows_the_generator():
    a, b = (HardConcrete(5, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(a.log_alpha, b.log_alpha) and len(a.log_alpha.unique()) == 5


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
        sparsity = 1 - gates.prob_nonzero().mean()
        loss = lagrangian(sparsity, ramped_target(0.6, update, 200))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert sparsity.item() == pytest.approx(0.6, abs=0.05)
