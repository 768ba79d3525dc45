import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_prune.structured import GatedEncoder, load_encoder, slim
from espnet_prune.structured.checkpoints import import_checkpoint
from espnet_prune.structured.checkpoints.dphubert import convert
from espnet_prune.structured.checkpoints.importing import build
from test.espnet_prune.structured.checkpoints.dphubert_files import CHANNELS, FFN, HEADS, cut
from test.espnet_prune.structured.checkpoints.torchaudio_models import assert_same_states
from test.espnet_prune.tiny import largest_difference, random_masks

SPEECH = torch.randn(2, 4000, generator=torch.Generator().manual_seed(5))


def imported(tmp_path, content):
    path = tmp_path / "pruned.pth"
    torch.save(content, path)
    kind, encoder = import_checkpoint(path)
    assert kind == "dphubert"
    return encoder


@pytest.mark.parametrize("layout", ["base", "large"])
@pytest.mark.parametrize("wavlm", [False, True])
@pytest.mark.parametrize("gain", [False, True])
def test_hidden_states_are_those_of_the_silenced_dense_model(tmp_path, layout, wavlm, gain):
    content, model = cut(layout, wavlm, gain)
    encoder = imported(tmp_path, content)
    assert encoder.family == ("wavlm" if wavlm else "hubert")
    assert_same_states(encoder, model, SPEECH)


@settings(max_examples=15, deadline=None)
@given(
    wavlm=st.booleans(),
    layout=st.sampled_from(["base", "large"]),
    heads=st.lists(st.sets(st.integers(0, 3)), min_size=3, max_size=3),
    ffn=st.lists(st.integers(0, 20), min_size=3, max_size=3),
    channels=st.lists(st.integers(4, 9), min_size=7, max_size=7),
    seed=st.integers(0, 99),
)
def test_any_cut(wavlm, layout, heads, ffn, channels, seed):
    heads = [sorted(numbers) for numbers in heads]
    content, model = cut(layout, wavlm, True, heads, ffn, channels, seed)
    if wavlm and not heads[0]:  # then DPHuBERT has no position bias
        with torch.no_grad():
            model.encoder.transformer.layers[0].attention.rel_attn_embed.weight.zero_()
    encoder = build(convert(content))
    assert_same_states(encoder, model, SPEECH, tolerance=1e-4)


def test_full_size(tmp_path):
    generator = torch.Generator().manual_seed(1)
    channels = torch.randint(150, 512, (7,), generator=generator).tolist()
    heads = [torch.randperm(12, generator=generator)[:n].sort().values.tolist() for n in range(12)]
    content, model = cut(
        "base",
        True,
        gain=True,
        heads=heads[::-1],
        ffn=[0, *range(100, 1200, 100)],
        channels=channels,
        encoder_embed_dim=768,
        encoder_num_layers=12,
        encoder_num_heads=12,
        encoder_ff_interm_features=3072,
        encoder_pos_conv_kernel=128,
        encoder_pos_conv_groups=16,
        encoder_num_buckets=320,
        encoder_max_distance=800,
    )
    encoder = imported(tmp_path, content)
    assert encoder.config.base["conv_dim"] == [512] * 7
    assert encoder.config.base["intermediate_size"] == 3072
    assert_same_states(encoder, model, SPEECH[:1], tolerance=1e-4)


@pytest.mark.parametrize("wavlm", [False, True])
def test_kept_units_give_exactly_the_files_shapes(tmp_path, wavlm):
    content, _ = cut("base", wavlm, gain=False)
    encoder = imported(tmp_path, content)
    kept = encoder.plan().kept
    for i, count in enumerate(CHANNELS):
        assert kept[f"feature_extractor.conv_layers.{i}.cnn"] == tuple(range(count))
    for i, (heads, count) in enumerate(zip(HEADS, FFN, strict=True)):
        layer = f"encoder.layers.{i}"
        numbers = tuple(heads) if wavlm else tuple(range(len(heads)))
        assert kept[f"{layer}.attention.head"] == numbers
        dims = tuple(4 * h + d for h in numbers for d in range(4))
        assert kept[f"{layer}.attention.qk"] == kept[f"{layer}.attention.vo"] == dims
        assert len(kept[f"{layer}.attention.mha"]) == bool(heads)
        assert len(kept[f"{layer}.ffn"]) == bool(count)
        assert len(kept[f"{layer}.ffn_dim"]) == count
    # Nothing is left but the file's tensors: not the gains (all one), and of WavLM not the gates'
    # constants of the dropped heads; weight norm's lengths are folded into the directions.
    count = sum(v.numel() for n, v in content["state_dict"].items() if "dummy" not in n)
    count -= 6  # weight norm: one length for each of 6 kernel positions
    if wavlm:
        count -= 1 + 3  # of the first and third layer; the second has no attention at all
    assert sum(p.numel() for p in encoder.parameters()) == count == int(encoder.plan().parameters())


def test_first_attention_of_wavlm_gone(tmp_path):
    """Then there is no position bias in DPHuBERT either: the reference gets a table of zeros."""
    content, model = cut("base", True, gain=True, heads=([], [0, 3], [1]))
    with torch.no_grad():
        model.encoder.transformer.layers[0].attention.rel_attn_embed.weight.zero_()
    assert_same_states(imported(tmp_path, content), model, SPEECH)


@pytest.mark.parametrize("layout", ["base", "large"])
def test_imported_model_with_gain_is_saved_loaded_and_pruned_again(tmp_path, layout):
    content, model = cut(layout, True, gain=True)
    encoder = imported(tmp_path, content)
    encoder.save_pretrained(tmp_path / "dir")
    encoder = load_encoder(tmp_path / "dir")
    assert_same_states(encoder, model, SPEECH)
    plan, lengths = encoder.plan(), torch.tensor([4000, 4000])
    gated, generator = GatedEncoder(encoder), torch.Generator().manual_seed(3)
    for _ in range(5):
        masks = plan.canonical(random_masks(plan, generator))
        small = slim(encoder, masks)
        assert sum(p.numel() for p in small.parameters()) == int(plan.parameters(masks))
        with torch.no_grad():
            masked = gated.masked_forward(masks, SPEECH, lengths)
            assert largest_difference(masked, small(SPEECH, lengths)) < 1e-4


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("encoder_use_attention", [True, False], "not one value per layer"),
        ("encoder_use_attention", [True, True, True], "lacks tensor encoder.layers.1.attention"),
        ("encoder_use_feed_forward", [True, False, False], "has unknown tensors encoder.la"),
        ("encoder_remaining_heads", [[0, 1], [], [1]], "encoder_remaining_heads of layer 0"),
        ("encoder_total_num_heads", [4, 4, 2], "encoder_total_num_heads does not fit"),
        ("encoder_num_buckets", None, "lacks 'encoder_num_buckets'"),
    ],
)
def test_configuration_that_contradicts_the_tensors(tmp_path, name, value, message):
    content, _ = cut("base", True, gain=False)
    content["config"][name] = value
    with pytest.raises(ValueError, match=r"pruned\.pth: ") as error:
        imported(tmp_path, content)
    assert message in str(error.value)


def test_model_that_still_has_gates(tmp_path):
    content, _ = cut("base", False, gain=False)
    content["state_dict"]["feature_extractor.conv_layers.0.hard_concrete.log_alpha"] = torch.ones(8)
    with pytest.raises(ValueError, match=r"has gates .* run DPHuBERT's prune\.py"):
        imported(tmp_path, content)
