"""Small random encoders of ESPnet in every layout that can be pruned."""

import torch

from espnet_prune.plugin.espnet_encoder import BASES, EspnetEncoder, Structure

INPUT_SIZE = 20
_SIZES = {
    **{"output_size": 16, "attention_heads": 4, "num_blocks": 2},
    **{"dropout_rate": 0.0, "positional_dropout_rate": 0.0},
}
_CONVOLUTION = {"linear_units": 12, "macaron_style": True, "cnn_module_kernel": 7}
_LATEST = {
    **{"rel_pos_type": "latest", "pos_enc_layer_type": "rel_pos"},
    "selfattention_layer_type": "rel_selfattn",
}
_GATING = {"cgmlp_linear_units": 24, "cgmlp_conv_kernel": 7}
_BOTH = {"linear_units": 12, "use_ffn": True, "macaron_ffn": True, "merge_conv_kernel": 3}
#: layout -> base, and what its `encoder_conf` has beside `_SIZES`
LAYOUTS = {
    "transformer": ("transformer", {"linear_units": 12}),
    "transformer, post-norm": (
        "transformer",
        {"linear_units": 12, "normalize_before": False, "concat_after": True},
    ),
    "transformer, convolutional": (
        "transformer",
        {
            **{"linear_units": 12, "positionwise_layer_type": "conv1d"},
            "positionwise_conv_kernel_size": 3,
        },
    ),
    "conformer": ("conformer", {**_CONVOLUTION, **_LATEST}),
    "conformer, legacy positions": ("conformer", _CONVOLUTION),
    "branchformer": ("branchformer", _GATING),
    "branchformer, average": ("branchformer", {**_GATING, "merge_method": "learned_ave"}),
    "e_branchformer": ("e_branchformer", {**_GATING, **_BOTH}),
    "e_branchformer, linear": ("e_branchformer", {**_GATING, "use_linear_after_conv": True}),
}


def structure(layout: str) -> Structure:
    base, conf = LAYOUTS[layout]
    return Structure(INPUT_SIZE, base, {**_SIZES, **conf})


def dense(layout: str, seed: int = 0) -> torch.nn.Module:
    """ESPnet's own; every parameter matters, and so do the running statistics."""
    torch.manual_seed(seed)
    wanted = structure(layout)
    encoder = BASES[wanted.base](wanted.input_size, **wanted.base_conf)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for module in encoder.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2.0)
    return encoder.eval()


def prunable(layout: str, seed: int = 0) -> EspnetEncoder:
    encoder = EspnetEncoder(structure(layout))
    encoder.load(dense(layout, seed))
    return encoder.eval()


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Features (3, T, D) with padding, and their lengths."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(3, 60, INPUT_SIZE, generator=generator), torch.tensor([60, 43, 31])
