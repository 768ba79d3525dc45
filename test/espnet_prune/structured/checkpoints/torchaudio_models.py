"""torchaudio's models of test size, and their hidden states: the reference for its layouts."""

import torch
from torchaudio.models import wav2vec2_model, wavlm_model

CONV = [(8, 10, 5)] + [(8, 3, 2)] * 4 + [(8, 2, 2)] * 2
SMALL = {
    "extractor_conv_layer_config": CONV,
    "encoder_embed_dim": 16,
    "encoder_projection_dropout": 0.1,
    "encoder_pos_conv_kernel": 6,
    "encoder_pos_conv_groups": 2,
    "encoder_num_layers": 3,
    "encoder_num_heads": 4,
    "encoder_attention_dropout": 0.2,
    "encoder_ff_interm_features": 20,
    "encoder_ff_interm_dropout": 0.0,
    "encoder_dropout": 0.1,
    "encoder_layer_drop": 0.05,
    "aux_num_out": None,
}
LAYOUTS = {
    "base": {
        "extractor_mode": "group_norm",
        "extractor_conv_bias": False,
        "encoder_layer_norm_first": False,
    },
    "large": {
        "extractor_mode": "layer_norm",
        "extractor_conv_bias": True,
        "encoder_layer_norm_first": True,
    },
}
WAVLM = {"encoder_num_buckets": 8, "encoder_max_distance": 9}  # reached by nine frames


def config(layout, wavlm, **changes):
    """Arguments of torchaudio's factories."""
    return {**SMALL, **LAYOUTS[layout], **(WAVLM if wavlm else {}), **changes}


def build(config, seed=0):
    """A random model whose every parameter matters."""
    torch.manual_seed(seed)
    factory = wavlm_model if "encoder_num_buckets" in config else wav2vec2_model
    model = factory(**config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter += 0.3 * torch.randn_like(parameter)
            elif parameter.dim() == 2:  # torchaudio starts from deviations of 0.02
                parameter.copy_(torch.randn_like(parameter) / parameter.shape[1] ** 0.5)
            elif "gru_rel_pos_const" in name:
                parameter += 0.3 * torch.randn_like(parameter)
    return model


@torch.no_grad()
def hidden_states(model, speech, lengths=None):
    """(the input of the first layer and the outputs of all, the frames' lengths or None).

    The last state is after the final norm, which torchaudio's large layout has not.
    """
    transformer = model.encoder.transformer
    inputs = []
    hook = transformer.layers[0].register_forward_pre_hook(
        lambda module, args: inputs.append(args[0])
    )
    outputs, frames = model.extract_features(speech, lengths)
    hook.remove()
    last = outputs[-1]
    if not transformer.layer_norm_first:
        last = transformer.layer_norm(last)
    return [inputs[0], *outputs[:-1], last], frames


@torch.no_grad()
def assert_same_states(encoder, model, speech, lengths=None, tolerance=1e-5):
    """Compare all hidden states with torchaudio's."""
    expected, frames = hidden_states(model, speech, lengths)
    out = encoder(speech, lengths)
    ours = [*out.hidden_states[:-1], out.last_hidden_state]
    assert len(ours) == len(expected)
    for mine, theirs in zip(ours, expected, strict=True):
        for b, length in enumerate(out.lengths.tolist()):
            difference = (mine[b, :length] - theirs[b, :length]).abs().max()
            assert difference < tolerance * max(1.0, theirs.abs().max()), float(difference)
    if frames is not None:
        assert out.lengths.tolist() == frames.tolist()
