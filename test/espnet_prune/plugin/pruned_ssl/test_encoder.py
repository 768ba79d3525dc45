"""The encoder: hidden states, what is trained and from when on, and ESPnet's way of calling it."""

import copy
import gc

import pytest
import torch
from espnet2.asr.ctc import CTC
from espnet2.asr.espnet_model import ESPnetASRModel
from torch.optim import optimizer as torch_optimizer

from espnet_prune.plugin.pruned_ssl import PrunedSSLEncoder
from espnet_prune.structured import load_encoder

SPEECH = torch.randn(2, 8000, generator=torch.Generator().manual_seed(0))
LENGTHS = torch.tensor([8000, 6000])
FAMILIES = ("wav2vec2", "hubert", "wavlm", "whisper")


def gradients(encoder: PrunedSSLEncoder) -> set[str]:
    """Names of the parameters that one batch gives a gradient."""
    encoder.zero_grad()
    out, _, _ = encoder(SPEECH, LENGTHS)
    if out.requires_grad:
        out.square().sum().backward()
    return {name for name, p in encoder.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shape", ["(B, T)", "(B, T, 1)"])
def test_gives_the_output_of_the_model(tiny, family, shape):
    encoder = PrunedSSLEncoder(1, tiny[family]).eval()
    speech = SPEECH if shape == "(B, T)" else SPEECH[:, :, None]
    out, lengths, state = encoder(speech, LENGTHS)
    expected = load_encoder(tiny[family])(SPEECH, LENGTHS)
    assert encoder.output_size() == 24 and state is None
    assert torch.equal(lengths, expected.lengths)
    assert out.shape[1] == lengths.max()
    torch.testing.assert_close(out, expected.last_hidden_state[:, : out.shape[1]])


def test_gives_the_output_of_every_layer_where_speech_translation_asks(tiny):
    encoder = PrunedSSLEncoder(1, tiny["hubert"]).eval()
    (out, layers), _, _ = encoder(SPEECH, LENGTHS, return_all_hs=True)
    assert len(layers) == 3 and torch.equal(layers[-1], out)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_weight_is_trained(tiny, family):
    encoder = PrunedSSLEncoder(1, tiny[family]).train()
    assert all(module.training for module in encoder.modules())
    trainable = {name for name, p in encoder.named_parameters() if p.requires_grad}
    assert gradients(encoder) == trainable
    assert not any(module.training for module in encoder.eval().modules())


@pytest.mark.parametrize("family", FAMILIES)
def test_feature_encoder_frozen(tiny, family):
    encoder = PrunedSSLEncoder(1, tiny[family], freeze_feature_encoder=True).train()
    frozen = {name for name, p in encoder.named_parameters() if not p.requires_grad}
    got = gradients(encoder)
    assert got and not got & frozen
    parts = {name.split(".")[3] for name in frozen}
    convolutions = {"conv1", "conv2", "embed_positions"}  # the last is never trained
    assert parts == (convolutions if family == "whisper" else {"feature_extractor"})


def test_feature_encoder_frozen_is_not_run_through_backwards(tiny):
    encoder = PrunedSSLEncoder(1, tiny["wav2vec2"], freeze_feature_encoder=True).train()
    features = []
    part = encoder.pretrained.encoder.backbone.feature_extractor
    part.register_forward_hook(lambda module, args, output: features.append(output))
    encoder(SPEECH, LENGTHS)
    assert not features[0].requires_grad


def test_frozen_for_the_first_updates_however_many_batches_one_takes(tiny):
    model = torch.nn.ModuleList(
        [PrunedSSLEncoder(1, tiny["hubert"], freeze_finetune_updates=2), torch.nn.Linear(24, 3)]
    ).train()
    encoder, head = model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    other = torch.optim.SGD(torch.nn.Linear(2, 2).parameters(), lr=0.1)
    before = copy.deepcopy(encoder.pretrained.state_dict())
    moved = []
    for _ in range(3):
        optimizer.zero_grad()
        for _ in range(2):  # accum_grad: 2
            out, _, _ = encoder(SPEECH, LENGTHS)
            head(out).square().mean().backward()
        optimizer.step()
        other.step()
        after = encoder.pretrained.state_dict()
        moved.append(any(not torch.equal(after[k], before[k]) for k in before))
    assert moved == [False, False, True]
    assert int(encoder.num_updates) == 3


def test_count_of_updates_is_in_the_checkpoint(tiny):
    encoder = PrunedSSLEncoder(1, tiny["hubert"], freeze_finetune_updates=5)
    assert not gradients(encoder)
    encoder.num_updates += 5
    resumed = PrunedSSLEncoder(1, tiny["hubert"], freeze_finetune_updates=5)
    resumed.load_state_dict(encoder.state_dict())
    assert gradients(resumed)


def test_counting_ends_with_the_encoder(tiny):
    hooks = torch_optimizer._global_optimizer_post_hooks
    gc.collect()
    before = len(hooks)
    encoder = PrunedSSLEncoder(1, tiny["hubert"], freeze_finetune_updates=5)
    assert len(hooks) == before + 1
    del encoder
    gc.collect()
    assert len(hooks) == before


def test_features_instead_of_a_waveform_are_refused(tiny):
    with pytest.raises(ValueError, match="gets 80 features a frame: set frontend: null and input"):
        PrunedSSLEncoder(80, tiny["hubert"])


@pytest.mark.parametrize("updates", [-1, 1.5, float("nan"), True])
def test_updates_are_a_whole_number(tiny, updates):
    with pytest.raises(ValueError, match="freeze_finetune_updates is .*, but has to be a whole"):
        PrunedSSLEncoder(1, tiny["hubert"], freeze_finetune_updates=updates)


def test_model_that_is_not_there():
    with pytest.raises(FileNotFoundError, match="pruned_ssl, key 'model': /nowhere/model: no such"):
        PrunedSSLEncoder(1, "/nowhere/model")


def test_pretrained_weights_can_be_put_back(tiny):
    encoder = PrunedSSLEncoder(1, tiny["whisper"])
    before = copy.deepcopy(encoder.state_dict())
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.normal_()
    encoder.reload_pretrained_parameters()
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())


def test_inside_espnets_asr_model(tiny):
    encoder = PrunedSSLEncoder(1, tiny["wavlm"])
    model = ESPnetASRModel(
        vocab_size=5,
        token_list=["<blank>", "<unk>", "a", "b", "<sos/eos>"],
        frontend=None,
        specaug=None,
        normalize=None,
        preencoder=None,
        encoder=encoder,
        postencoder=None,
        decoder=None,
        ctc=CTC(odim=5, encoder_output_size=24),
        joint_network=None,
        ctc_weight=1.0,
    )
    text = torch.tensor([[2, 3, 2], [3, 2, -1]])
    loss, _, _ = model(SPEECH, LENGTHS, text, torch.tensor([3, 2]))
    loss.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
