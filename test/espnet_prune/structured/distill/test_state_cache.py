import logging

import pytest
import torch
from safetensors.torch import load_file, save_file

from espnet_prune.structured import load_encoder
from espnet_prune.structured.distill import DistillModel, PruningConf
from espnet_prune.structured.distill import state_cache as module
from espnet_prune.structured.distill.state_cache import FeatureCache, TeacherCache
from espnet_prune.structured.distill.teacher import Teacher
from test.espnet_prune.tiny import LAYOUTS, batch, saved


@pytest.fixture(params=LAYOUTS)
def teacher(request, tmp_path):
    return load_encoder(saved(request.param, tmp_path / "dense")).eval()


def files(directory):
    return sorted(path for path in directory.rglob("*") if path.is_file())


def test_answers_are_the_teachers(teacher, tmp_path):
    speech, lengths = batch()
    cache = TeacherCache(tmp_path / "cache", Teacher(teacher), full_window=True)
    (first, _), (again, _) = (cache.padded(speech, lengths, n) for n in (range(4), (3, 1)))
    assert len(files(tmp_path / "cache")) == len(speech)
    assert list(again) == [3, 1]
    assert torch.equal(first[3], again[3]) and torch.equal(first[1], again[1])
    for n, a in first.items():
        for row, length in enumerate(lengths.tolist()):
            with torch.no_grad():
                out = teacher(speech[row : row + 1, :length])
            # The last one behind the final norm
            want = [*out.hidden_states[:-1], out.last_hidden_state][n][0]
            assert (a[row, : len(want)] - want).abs().max() < 2e-3 * want.abs().max()
            assert not a[row, len(want) :].any()


def loaded(tmp_path, dtype=None):
    return Teacher(load_encoder(saved("whisper", tmp_path / "dense")), dtype)


def test_the_second_call_asks_the_disk_only(tmp_path, monkeypatch):
    teacher = loaded(tmp_path)
    TeacherCache(tmp_path / "cache", teacher, True).padded(*batch(), range(4))
    monkeypatch.setattr(teacher.encoder, "forward", lambda *_: pytest.fail("asked the teacher"))
    TeacherCache(tmp_path / "cache", teacher, True).padded(*batch(), range(4))


@pytest.mark.parametrize("change", ["weights", "waveform", "window", "dtype", "autocast", "code"])
def test_other_weights_waveforms_windows_types_or_code_are_other_entries(
    change, tmp_path, monkeypatch
):
    teacher = loaded(tmp_path)
    speech, lengths = batch()
    TeacherCache(tmp_path / "cache", teacher, True).padded(speech, lengths, range(4))
    before = len(files(tmp_path / "cache"))
    if change == "weights":
        with torch.no_grad():
            next(teacher.encoder.parameters()).view(-1)[0] += 1e-3
    if change == "waveform":
        speech = speech * 0.5
    if change == "code":
        monkeypatch.setattr(module, "code_of", lambda *places: "another")
    if change == "dtype":
        teacher = loaded(tmp_path, "float32")  # None may be autocast
    with torch.autocast("cpu", torch.bfloat16, enabled=change == "autocast"):
        TeacherCache(tmp_path / "cache", teacher, change != "window").padded(
            speech, lengths, range(4)
        )
    assert len(files(tmp_path / "cache")) == 2 * before


def test_hidden_states_that_overflow_half_precision_stay_single(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LARGEST_HALF", 0.0)
    teacher = loaded(tmp_path)
    cache = TeacherCache(tmp_path / "cache", teacher, True)
    cache.padded(*batch(), [3])
    speech, lengths = batch()
    with torch.no_grad():
        want = teacher.encoder(speech[:1, : lengths[0]])
    assert torch.equal(cache.padded(speech, lengths, [3])[0][3][:1], want.hidden_states[-1])


def test_a_full_disk_costs_only_the_speed(tmp_path, monkeypatch, caplog):
    def full(_, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "save_file", full)
    cache = TeacherCache(tmp_path / "cache", loaded(tmp_path), True)
    with caplog.at_level(logging.WARNING):
        cache.padded(*batch(), [0, 2])
        cache.padded(*batch(), [0, 2])
    assert not files(tmp_path / "cache")
    assert len([r for r in caplog.records if "No space left" in r.message]) == 1


def test_training_with_the_cache_is_training_without(tmp_path):
    directory = saved("whisper", tmp_path / "dense")
    losses = []
    for cache in (None, str(tmp_path / "cache"), str(tmp_path / "cache")):
        model = DistillModel(
            load_encoder(directory),
            load_encoder(directory),
            PruningConf(target=0.5),
            teacher_cache=cache,
        ).train()
        torch.manual_seed(0)
        losses.append(model(*batch())[0].item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-3) and losses[1] == losses[2]


def test_states_that_are_no_numbers_are_neither_kept_nor_taken(tmp_path):
    encoder, cached = load_encoder(saved("whisper", tmp_path / "dense")), tmp_path / "cache"
    wave = torch.randn(8000)
    cache = FeatureCache(cached, encoder, True)
    wanted = cache.one(wave, [0, 1])
    (file,) = cached.glob("*/*.safetensors")
    for content in (b"damaged", None):
        if content is None:  # of a version that did not look
            save_file({"0": wanted[0], "1": torch.full_like(wanted[1], torch.nan)}, file)
        else:
            file.write_bytes(content)
        assert torch.equal(cache.one(wave, [0, 1])[1], wanted[1])
        assert torch.equal(load_file(file)["1"], wanted[1])  # and made again
    file.unlink()
    with torch.no_grad():
        encoder.backbone.conv1.weight.fill_(1e30)
        encoder.backbone.conv2.weight.fill_(1e30)
    for kind in (FeatureCache, lambda *args: TeacherCache(args[0], Teacher(args[1]), args[2])):
        with pytest.raises(ValueError, match="an utterance of 8000 samples: tensor hidden state"):
            kind(cached, encoder, True).one(wave, [0, 1])
    assert not list(cached.glob("*/*.safetensors"))
