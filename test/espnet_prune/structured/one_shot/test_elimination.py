import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from espnet_prune.structured.one_shot.elimination import (
    RIDGE,
    convex,
    eliminate,
    linear_axes,
    product_axes,
    refit,
)


def problem(units: int, width: int, seed: int, outputs: int = 3):
    """Correlated features with a constant, and weights."""
    generator = torch.Generator().manual_seed(seed)
    size = units * width

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.double)

    x = normal(200, size) @ normal(size, size) + normal(size)
    x = torch.cat([x, torch.ones(200, 1)], 1)
    return x, normal(size + 1, outputs)


def left_error(x, weight, kept, width) -> float:
    """min over V of |X_kept V - X W|^2 + ridge |V - W|^2 by a least-squares solver."""
    features = x.shape[1] - 1
    ridge = RIDGE * x[:, :features].square().sum() / features
    x = torch.cat([x, ridge.sqrt() * torch.eye(features, features + 1, dtype=x.dtype)])
    columns = [unit * width + i for unit in kept for i in range(width)] + [x.shape[1] - 1]
    target = x @ weight
    found = torch.linalg.lstsq(x[:, columns], target, driver="gelsd").solution
    return float((x[:, columns] @ found - target).square().sum())


@given(st.integers(1, 6), st.integers(1, 3), st.integers(0, 50))
def test_errors_are_those_of_least_squares(units, width, seed):
    x, weight = problem(units, width, seed)
    order, errors = eliminate(x.T @ x, weight, units, width)
    assert sorted(order) == list(range(units)) and len(errors) == units
    for gone in range(1, units + 1):
        exact = left_error(x, weight, sorted(order[gone:]), width)
        assert errors[gone - 1] == pytest.approx(exact, rel=1e-5)


@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 3), st.integers(0, 50))
def test_groups_shrink_in_step(groups, size, each, seed):
    x, weight = problem(groups * size, 1, seed)
    order, errors = eliminate(x.T @ x, weight, groups * size, 1, groups, each)
    for step in range(size):
        gone = order[step * groups : (step + 1) * groups]
        assert sorted(unit // size for unit in gone) == list(range(groups))
        if (step + 1) % each == 0 or step + 1 == size:  # in between errors are interpolated
            exact = left_error(x, weight, sorted(order[(step + 1) * groups :]), 1)
            assert errors[(step + 1) * groups - 1] == pytest.approx(exact, rel=1e-5)


@given(st.integers(2, 6), st.integers(0, 50))
def test_the_cheapest_goes_first(units, seed):
    x, weight = problem(units, 1, seed)
    order, errors = eliminate(x.T @ x, weight, units)
    every = [
        left_error(x, weight, [u for u in range(units) if u != gone], 1) for gone in range(units)
    ]
    assert every[order[0]] <= min(every) * (1 + 1e-6)


@given(st.integers(1, 6), st.integers(1, 3), st.integers(0, 50), st.data())
def test_refit_is_least_squares(units, width, seed, data):
    x, weight = problem(units, width, seed)
    kept = sorted(data.draw(st.sets(st.integers(0, units - 1))))
    found = refit(x.T @ x, weight, torch.tensor(kept, dtype=torch.long), units, width)
    columns = [unit * width + i for unit in kept for i in range(width)] + [units * width]
    error = float((x[:, columns] @ found - x @ weight).square().sum())
    assert error <= left_error(x, weight, kept, width) + 1e-6


@given(st.integers(1, 8), st.integers(0, 50))
def test_product_axes_keep_the_product_and_order_it(size, seed):
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(2, size, size, generator=generator, dtype=torch.double)
    q, k = torch.randn(2, 400, size, generator=generator, dtype=torch.double) @ mixing
    turn_q, turn_k = product_axes(q.T @ q, k.T @ k)
    new_q, new_k = q @ turn_q.T, k @ turn_k.T
    whole = q @ k.T
    torch.testing.assert_close(new_q @ new_k.T, whole, atol=1e-6, rtol=1e-5)
    best = torch.linalg.svdvals(whole)
    for kept in range(size + 1):  # of the product of all with all, no basis keeps more
        error = (new_q[:, :kept] @ new_k[:, :kept].T - whole).square().sum()
        assert float(error) == pytest.approx(float(best[kept:].square().sum()), rel=1e-3, abs=1e-4)


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 50))
def test_linear_axes_keep_the_map_and_order_it(rows, size, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(300, size, generator=generator, dtype=torch.double)
    x = x @ torch.randn(size, size, generator=generator, dtype=torch.double)
    weight = torch.randn(rows, size, generator=generator, dtype=torch.double)
    forth, back = linear_axes(weight, x.T @ x)
    new, columns = x @ forth.T, weight @ back
    torch.testing.assert_close(new @ columns.T, x @ weight.T, atol=1e-6, rtol=1e-5)
    best = torch.linalg.svdvals(x @ weight.T)
    for kept in range(min(rows, size) + 1):
        error = (new[:, kept:] @ columns[:, kept:].T).square().sum()
        assert float(error) == pytest.approx(float(best[kept:].square().sum()), rel=1e-3, abs=1e-4)


@given(st.lists(st.floats(0, 100), max_size=20))
def test_convex_is_the_largest_convex_curve_below(errors):
    errors = sorted(errors)
    rises = convex(errors)
    assert len(rises) == len(errors)
    assert all(a <= b + 1e-9 for a, b in zip(rises, rises[1:], strict=False))
    total = 0.0
    for rise, error in zip(rises, errors, strict=True):
        total += rise
        assert total <= error + 1e-6
    assert not errors or total == pytest.approx(errors[-1])
