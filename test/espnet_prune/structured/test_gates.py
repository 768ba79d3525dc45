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
    deterministic_gate,
    hard_concrete,
    prob_nonzero,
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
