import pytest
import torch

from espnet_prune.structured import load_encoder, slim
from espnet_prune.structured.distill import DistillModel, PruningConf
from test.espnet_prune.tiny import LAYOUTS, batch, random_masks, saved


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return saved("whisper", tmp_path_factory.mktemp("dense"))


def build(directory, pruning=None, **kwargs):
    return DistillModel(load_encoder(directory), load_encoder(directory), pruning, **kwargs)


def test_teacher_stays_frozen_in_eval_and_out_of_checkpoints(directory):
    model = build(directory, PruningConf(target=0.5)).train()
    assert not model.teacher.training and not any(
        p.requires_grad for p in model.teacher.parameters()
    )
    names = list(model.state_dict())
    assert not [name for name in names if "teacher" in name]
    assert {"updates", "lagrangian.lambda1", "lagrangian.lambda2"} <= set(names)
    before = {k: v.clone() for k, v in model.teacher.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(*batch())[0].backward()
    optimizer.step()
    assert all(torch.equal(v, before[k]) for k, v in model.teacher.state_dict().items())


def test_a_student_equal_to_its_teacher_has_no_loss(directory):
    loss, stats, weight = build(directory)(*batch())
    assert loss.item() == pytest.approx(0, abs=1e-6) and weight.item() == 2 * 60
    assert set(stats) == {"distill", "distill_l2", "distill_cosine", "loss"}


def test_loss_is_distillation_plus_penalty(directory):
    model = build(directory, PruningConf(target=0.4, ramp_updates=10)).train()
    with torch.no_grad():
        model.lagrangian.lambda1.fill_(1.5)
        model.lagrangian.lambda2.fill_(2.0)
    model.updates.fill_(5)
    torch.manual_seed(0)
    loss, stats, _ = model(*batch())
    gap = stats["sparsity_expected"].item() - 0.2
    assert stats["sparsity_target"].item() == pytest.approx(0.2)
    assert loss.item() == pytest.approx(stats["distill"].item() + 1.5 * gap + 2 * gap**2, abs=1e-5)
    assert model.history == [
        pytest.approx({"update": 5, **{k: v.item() for k, v in stats.items()}})
    ]


def test_evaluation_sees_the_slimmed_model(directory):
    from espnet_prune.structured import slim

    model = build(directory, PruningConf(target=0.4, ramp_updates=10)).eval()
    model.updates.fill_(10)
    with torch.no_grad():
        for alpha in model.student.log_alphas().values():
            alpha.copy_(torch.randn_like(alpha) * 3)
        _, stats, _ = model(*batch())
        small = slim(model.encoder, model.student.hard_masks(0.4))
        _, wanted, _ = DistillModel(model.teacher, small).eval()(*batch())
    assert stats["distill"].item() == pytest.approx(wanted["distill"].item(), abs=1e-5)
    assert not model.history


def test_masks_are_made_once_for_each_state_of_the_gates(directory, monkeypatch):
    model = build(directory, PruningConf(target=0.4, ramp_updates=10)).eval()
    model.updates.fill_(10)
    made, original = [], model.student.hard_masks
    monkeypatch.setattr(
        model.student, "hard_masks", lambda *args: made.append(args) or original(*args)
    )
    with torch.no_grad():
        first = [model(*batch())[1]["sparsity_exact"].item() for _ in range(2)]
        assert made == [(0.4,), ()] and first[0] == first[1]
        model.train()
        model(*batch())
        assert len(made) == 2
        for alpha in model.student.log_alphas().values():
            alpha.copy_(torch.randn_like(alpha) * 3)
        found = model(*batch())[1]["sparsity_exact"].item()
        assert made[2:] == [()]
        assert found == pytest.approx(model.student.exact_sparsity(original()))
        assert abs(found - first[0]) > 1e-3
        model.updates.fill_(5)  # the target of this moment is another one, too
        model.eval()(*batch())
    assert made[3:] == [(0.2,), ()]


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({"target": "half"}, "pruning_conf.target is 'half', but has to be a number"),
        ({"gate_lr": None}, "pruning_conf.gate_lr is None"),
        ({"cost": "time"}, "pruning_conf.cost is 'time', choose from parameters, macs, latency"),
        ({"cost": "latency"}, "pruning_conf.latency_table: give the file"),
        ({"init": float("nan")}, "pruning_conf.init is nan, but has to be finite"),
        ({"target": float("nan")}, "pruning_conf.target is nan, but has to be finite"),
        ({"gate_lr": -0.1}, "pruning_conf.gate_lr is -0.1, but has to be above 0"),
        ({"multiplier_lr": float("inf")}, "pruning_conf.multiplier_lr is inf"),
        ({"multiplier_lr": 0}, "pruning_conf.multiplier_lr is 0, but has to be above 0"),
        ({"ramp_updates": -1}, "pruning_conf.ramp_updates is -1, but has to be 0 or more"),
        ({"ste": "no"}, "pruning_conf.ste is 'no', but has to be true or false"),
        ({"compensate": 1}, "pruning_conf.compensate is 1, but has to be true or false"),
    ],
)
def test_wrong_types(conf, message):
    with pytest.raises(ValueError, match=message):
        PruningConf(**conf)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"layers": [0, 9]}, "no hidden state 9, only 0 to 3"),
        ({"layers": [1, 2, 1]}, r"given twice in \[1, 2, 1\]"),
        (
            {"teacher_dtype": "bf16"},
            "teacher_dtype is 'bf16', but has to be one of float32, bfloat16, float16",
        ),
        ({"losses": {"l3": 1.0}}, "unknown loss 'l3', choose from l1, l2, cosine"),
        ({"losses": {"l1": -1.0}}, r"losses.l1 is -1.0, but has to be a number in \[0, inf\)"),
        ({"losses": {"l1": float("nan")}}, "losses.l1 is nan, but has to be a number"),
        ({"layers": [True, 2.0]}, "there is no hidden state True"),
        ({"dropout": 1.0}, r"dropout is 1.0, but has to be a number in \[0, 1\)"),
        ({"decoder_loss": float("nan")}, "decoder_loss is nan"),
        ({"full_window": "yes"}, "full_window is 'yes'"),
        ({"full_window": float("nan")}, "full_window is nan"),
    ],
)
def test_wrong_arguments(directory, kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(directory, **kwargs)


def test_student_of_another_family(directory, tmp_path):
    with pytest.raises(ValueError, match="family 'hubert'.*teacher of family 'whisper'"):
        DistillModel(load_encoder(directory), load_encoder(saved("hubert-base", tmp_path)))


@pytest.mark.parametrize("target", [-0.01, 1.0])
def test_target_outside_its_range(target):
    with pytest.raises(ValueError, match=r"target is .*\[0, 1\)"):
        PruningConf(target=target)


def test_the_input_is_prepared_once_for_both(directory, monkeypatch):
    model = build(directory, PruningConf(target=0.5)).train()
    monkeypatch.setattr(model.teacher, "prepare", lambda *_: pytest.fail("prepared twice"))
    assert model(*batch())[0].item() > 0
    # a student that wants other input gets it, and so does its teacher
    other = build(directory)
    other.teacher.config.do_normalize = True
    other = DistillModel(other.teacher, other.encoder)
    calls = []
    prepare = other.teacher.prepare
    monkeypatch.setattr(other.teacher, "prepare", lambda *a: calls.append(a) or prepare(*a))
    other(*batch())
    assert len(calls) == 1


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("layers", [None, [0, 2]])
def test_no_trainable_parameter_is_unused(tmp_path, layout, layers):
    """Each of several processes would wait for gradients that never come (DDP)."""
    teacher = load_encoder(saved(layout, tmp_path))
    plan = teacher.plan()
    masks = random_masks(plan, torch.Generator().manual_seed(2))
    headless = {n: torch.zeros(plan.size(n)) for n, s in plan.sites.items() if s.kind == "head"}
    students = [(load_encoder(tmp_path), PruningConf(target=0.3)), (slim(teacher, masks), None)]
    for student, pruning in [*students, (slim(teacher, headless), PruningConf(target=0.3))]:
        model = DistillModel(teacher, student, pruning, layers=layers).train()
        model(*batch())[0].backward()
        unused = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
        assert not unused
        trained = {id(p) for group in model.parameter_groups() for p in group["params"]}
        assert trained == {id(p) for p in model.parameters() if p.requires_grad}

    frozen = {n for n, p in students[0][0].named_parameters() if not p.requires_grad}
    expected = {"backbone.embed_positions.weight"} if layout == "whisper" else set()
    if layers and (layout.endswith("large") or layout == "whisper"):
        norm = "layer_norm" if layout == "whisper" else "encoder.layer_norm"
        expected |= {f"backbone.{norm}.weight", f"backbone.{norm}.bias"}
    if layers:  # and the third layer
        expected |= {name for name in frozen if "layers.2." in name and "conv" not in name}
        assert len(expected) > 10
    assert frozen == expected  # no more than that


@pytest.mark.parametrize(
    ("pruning", "message"),
    [
        ({"target": 0.99}, "target 0.99 cannot be reached, at most 0.[0-9]+ of the cost can be"),
        (
            {"target": 0.5, "protected": ["cnn", "mha", "head", "qk", "vo"]},
            "target 0.5 cannot be reached",
        ),
        (
            {"target": 0.02, "protected": ["cnn", "qk", "vo", "ffn_dim", "head"]},
            "the smallest part that can be removed is 0.[0-9]+ of the cost",
        ),
    ],
)
def test_targets_that_cannot_be_reached_are_said_at_the_start(directory, pruning, message):
    with pytest.raises(ValueError, match=message):
        build(directory, PruningConf(**pruning))


def test_protected_names_that_protect_nothing(directory):
    teacher = load_encoder(directory)
    name = "layers.1.ffn_dim"
    small = slim(teacher, {name: torch.zeros(teacher.plan().size(name))})
    DistillModel(teacher, small, PruningConf(target=0.2))
    with pytest.raises(ValueError, match=f"protected: '{name}' has no units left"):
        DistillModel(teacher, small, PruningConf(target=0.2, protected=[name]))
    plan = teacher.plan(protected=["qk", "vo", "cnn"])
    assert plan.takes_along() == [("qk", "head"), ("qk", "mha"), ("vo", "head"), ("vo", "mha")]
    assert teacher.plan(protected=["head", "mha"]).takes_along() == [("head", "vo")]
    assert teacher.plan(protected=["ffn", "ffn_dim"]).takes_along() == []
