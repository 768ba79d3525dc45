import argparse
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from espnet_prune.structured.checkpoints import import_checkpoint
from espnet_prune.structured.checkpoints.fairseq import _conv_layers
from test.espnet_prune.structured.checkpoints.s3prl_reference import FACTS, FRAME, waveform, weights

facts = json.loads(FACTS.read_text())


def tensors(case):
    return {name: weights(name, shape) for name, shape in facts[case]["shapes"].items()}


def save(tmp_path, content, **kwargs):
    path = tmp_path / "model.pt"
    torch.save(content, path, **kwargs)
    return path


def content(case, normalize=False):
    """As fairseq saves a pre-trained model since 0.10.2, and Microsoft WavLM."""
    options = facts[case]["options"]
    if case.startswith("wavlm"):
        return {"cfg": {**options, "normalize": normalize}, "model": tensors(case)}
    return {
        "args": None,
        "cfg": {"model": options, "task": {"_name": "audio", "normalize": normalize}},
        "model": tensors(case),
        "optimizer_history": [{"num_updates": 4}],
    }


@torch.no_grad()
def assert_as_s3prl(encoder, case):
    out = encoder(waveform())
    expected = torch.tensor(facts[case]["states"])
    assert out.lengths.tolist() == [facts[case]["frames"]]
    # The last of s3prl's states is after the final norm.
    states = [*out.hidden_states[:-1], out.last_hidden_state]
    states = torch.stack([state[0, FRAME] for state in states])
    torch.testing.assert_close(states, expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("case", facts)
def test_hidden_states_are_those_of_s3prl(tmp_path, case):
    kind, encoder = import_checkpoint(save(tmp_path, content(case)))
    assert (kind, encoder.family) == ("fairseq", case.split("-")[0])
    assert not encoder.config.kept and not encoder.config.do_normalize
    assert_as_s3prl(encoder, case)


def test_s3prl_conversion(tmp_path):
    case = "hubert-base"
    path = save(
        tmp_path,
        {
            "task_cfg": {"normalize": True},
            "model_cfg": facts[case]["options"],
            "model_weight": tensors(case),
            "dictionaries_symbols": [["a", "b"]],
        },
    )
    encoder = import_checkpoint(path)[1]
    assert encoder.family == "hubert"
    assert encoder.config.do_normalize
    encoder.config.do_normalize = False
    assert_as_s3prl(encoder, case)


def test_old_file_with_namespace_of_fine_tuned_model_in_legacy_format_and_half_precision(tmp_path):
    case = "wav2vec2-large"
    inner = argparse.Namespace(**facts[case]["options"], normalize=False, arch="wav2vec2")
    outer = argparse.Namespace(
        arch="wav2vec_ctc", task="audio_pretraining", normalize=True, w2v_args=inner, labels="ltr"
    )
    state = {f"w2v_encoder.w2v_model.{n}": v.half() for n, v in tensors(case).items()}
    state["w2v_encoder.proj.weight"] = torch.zeros(30, 16)
    path = save(tmp_path, {"args": outer, "model": state}, _use_new_zipfile_serialization=False)
    encoder = import_checkpoint(path)[1]
    assert encoder.config.do_normalize
    assert encoder.dtype == torch.float32
    name = "encoder.layers.1.attention.q_proj.weight"
    expected = tensors(case)["encoder.layers.1.self_attn.q_proj.weight"].half().float()
    assert torch.equal(encoder.backbone.state_dict()[name], expected)


def test_omegaconf_options_and_dictionary_are_read_without_their_packages_code(tmp_path):
    omegaconf = pytest.importorskip("omegaconf")
    case = "hubert-large"
    cfg = omegaconf.OmegaConf.create(
        {
            "model": {
                "_name": "hubert_ctc",
                "w2v_args": {"model": facts[case]["options"], "task": {"normalize": False}},
            },
            "task": {"normalize": True, "labels": ["ltr"]},
        }
    )
    state = {f"w2v_encoder.w2v_model.{n}": v for n, v in tensors(case).items()}
    path = save(tmp_path, {"cfg": cfg, "model": state, "task_state": {"d": omegaconf.MISSING}})
    encoder = import_checkpoint(path)[1]
    assert encoder.config.do_normalize
    encoder.config.do_normalize = False
    assert_as_s3prl(encoder, case)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer_type": "conformer"}, "layer_type 'conformer' is not supported"),
        ({"activation_fn": "swish"}, "activation_fn 'swish' is not supported"),
        ({"encoder_attention_heads": None}, "its configuration lacks 'encoder_attention_heads'"),
        ({"conv_feature_layers": "[(8,10,5)] * 7"}, "does not fit the tensors"),
        ({"conv_feature_layers": "__import__('os').getcwd()"}, "cannot be read"),
    ],
)
def test_wrong_options(tmp_path, change, message):
    case = "wav2vec2-base"
    whole = content(case)
    whole["cfg"]["model"] = {**facts[case]["options"], **change}
    path = save(tmp_path, whole)
    with pytest.raises(ValueError, match=r"model\.pt: .*") as error:
        import_checkpoint(path)
    assert message in str(error.value)


LAYERS = st.lists(st.tuples(*[st.integers(1, 600)] * 3), min_size=1, max_size=3)


@given(st.lists(st.tuples(LAYERS, st.integers(1, 4)), min_size=1, max_size=4))
def test_conv_layers_are_what_python_makes_of_the_text(parts):
    text = " + ".join(str(layers) if n == 1 else f"{layers} * {n}" for layers, n in parts)
    expected = eval(text)  # as fairseq does
    assert _conv_layers({"conv_feature_layers": text}) == expected


def test_missing_tensor(tmp_path):
    whole = content("wavlm-base")
    del whole["model"]["encoder.layers.1.fc2.bias"]
    with pytest.raises(
        ValueError, match=r"model\.pt: lacks tensors encoder\.layers\.1\.feed_forward\.output_dense"
    ):
        import_checkpoint(save(tmp_path, whole))


def test_misshapen_tensor(tmp_path):
    whole = content("wavlm-base")
    whole["model"]["encoder.layers.1.fc2.bias"] = torch.zeros(17)
    with pytest.raises(
        ValueError, match=r"output_dense\.bias .* is \(17,\), but has to be \(16,\)"
    ):
        import_checkpoint(save(tmp_path, whole))


def test_other_architecture(tmp_path):
    whole = content("wav2vec2-base")
    whole["model"]["encoder.pos_conv.0.0.weight"] = torch.zeros(1)  # as in data2vec
    with pytest.raises(ValueError, match=r"unknown tensor encoder\.pos_conv\.0\.0\.weight"):
        import_checkpoint(save(tmp_path, whole))
    with pytest.raises(ValueError, match="lacks the tensors of the CNN"):
        import_checkpoint(save(tmp_path, {"cfg": {"model": {"a": 1}}, "model": {}}))


def test_no_options(tmp_path):
    with pytest.raises(ValueError, match="no options"):
        import_checkpoint(save(tmp_path, {"cfg": None, "model": tensors("wav2vec2-base")}))
