import pytest
import torch

from espnet_prune.distill import LOSSES, distillation_loss


def all_of(states):
    return torch.ones(states.shape[:2], dtype=torch.bool)


@pytest.mark.parametrize("name", LOSSES)
def test_zero_where_equal_and_scale_of_one_for_the_mean(name):
    teacher = torch.randn(3, 50, 8) * 100
    zero = LOSSES[name](teacher, teacher, all_of(teacher))
    assert zero.tolist() == pytest.approx([0, 0, 0], abs=1e-5)
    if name != "cosine":  # the constant mean explains nothing
        mean = teacher.mean(1, keepdim=True).expand_as(teacher)
        one = LOSSES[name](mean, teacher, all_of(teacher))
        assert one.tolist() == pytest.approx([1, 1, 1], abs=1e-5)


def test_by_hand():
    student = torch.tensor([[[1.0, 0.0], [1.0, 1.0]]])
    teacher = torch.tensor([[[0.0, 1.0], [2.0, 2.0]]])
    valid = all_of(teacher)
    assert LOSSES["cosine"](student, teacher, valid).item() == pytest.approx(0.5)
    # mean frame (1, 1.5); differences (1, -1), (-1, -1) against (-1, -.5), (1, .5)
    assert LOSSES["l1"](student, teacher, valid).item() == pytest.approx(4 / 3)
    assert LOSSES["l2"](student, teacher, valid).item() == pytest.approx(4 / 2.5)


def test_a_single_frame_has_a_finite_loss():
    teacher = torch.randn(1, 1, 8)
    for name, loss in LOSSES.items():
        assert torch.isfinite(loss(teacher + 0.1, teacher, all_of(teacher))).all(), name


def test_a_batch_is_its_utterances_weighted_by_frames():
    torch.manual_seed(0)
    teacher, student = torch.randn(3, 6, 4), torch.randn(3, 6, 4)
    lengths = torch.tensor([6, 2, 3])
    frames = torch.arange(6)[None] < lengths[:, None]
    weights = {name: 1.0 for name in LOSSES}
    whole, _ = distillation_loss([student], [teacher], [0], weights, frames)
    apart = [
        distillation_loss([student[u : u + 1, :n]], [teacher[u : u + 1, :n]], [0], weights, f)[0]
        for u, n in enumerate(lengths.tolist())
        for f in (torch.ones(1, n, dtype=torch.bool),)
    ]
    mean = sum(float(loss) * n for loss, n in zip(apart, lengths.tolist(), strict=True)) / 11
    assert whole.item() == pytest.approx(mean, rel=1e-5)


def test_padding_and_layers_left_out_do_not_count():
    torch.manual_seed(0)
    teacher = [torch.randn(2, 5, 4) for _ in range(3)]
    student = [t + 0.1 * torch.randn_like(t) for t in teacher]
    frames = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]).bool()
    weights = {"l2": 2.0, "l1": 0.5}
    loss, parts = distillation_loss(student, teacher, [0, 2], weights, frames)
    student[1] += 7
    for state in student:
        state[1, 2:] += 100
    again, _ = distillation_loss(student, teacher, [0, 2], weights, frames)
    assert torch.equal(loss, again)
    wanted = 2 * parts["distill_l2"] + 0.5 * parts["distill_l1"]
    assert loss.item() == pytest.approx(wanted.item())
