"""The plugin `token_pruning` around ESPnet's encoders and poolings, and in its stock tasks."""

import pytest
import torch
import yaml

from espnet_prune.plugin.registry import register
from espnet_prune.tokens import staying_frames

register()

from espnet2.tasks.cls import CLSTask  # noqa: E402
from espnet2.tasks.slu import SLUTask  # noqa: E402
from espnet2.tasks.spk import SpeakerTask  # noqa: E402

from espnet_prune.plugin.token_pruning import TokenPruningEncoder, TokenPruningPooling  # noqa: E402

TINY = {"output_size": 8, "attention_heads": 2, "linear_units": 8, "num_blocks": 2}
TINY |= {"dropout_rate": 0.0, "positional_dropout_rate": 0.0, "attention_dropout_rate": 0.0}
FEATS, LENGTHS = torch.randn(2, 90, 20), torch.tensor([90, 47])
FBANK = {"frontend_conf": {"n_mels": 20, "n_fft": 256, "hop_length": 160}}


def encoder(name="transformer", rate=0.5, score="neighbours", **changes):
    torch.manual_seed(0)
    return TokenPruningEncoder(20, name, {**TINY, **changes}, rate, score).eval()


@pytest.mark.parametrize("name", ["transformer", "conformer"])
@pytest.mark.parametrize("score", ["neighbours", "mean"])
def test_frames_are_those_of_the_wrapped_encoder(name, score):
    pruned = encoder(name, 0.4, score)
    whole, whole_lengths, _ = pruned.encoder(FEATS, LENGTHS)
    out, lengths, states = pruned(FEATS, LENGTHS)
    assert lengths.tolist() == [round(0.6 * n) for n in whole_lengths.tolist()]
    assert out.shape == (2, lengths.max(), 8) and states is None and pruned.output_size() == 8
    indices, _ = staying_frames(whole, whole_lengths, 0.4, score)
    for b, k in enumerate(lengths.tolist()):
        assert torch.equal(out[b, :k], whole[b, indices[b, :k]])
        assert not out[b, k:].any()


def test_a_batch_is_its_singles():
    # ESPnet's subsampling gives a single one frame less, its conformer convolves the padding
    pruned = encoder(input_layer="linear")
    out, lengths, _ = pruned(FEATS, LENGTHS)
    for b, n in enumerate(LENGTHS.tolist()):
        alone, (k,), _ = pruned(FEATS[b : b + 1, :n], LENGTHS[b : b + 1])
        assert k == lengths[b]
        torch.testing.assert_close(out[b, :k], alone[0], atol=1e-5, rtol=1e-4)


def test_nothing_is_dropped_at_rate_zero():
    pruned = encoder(rate=0.0)
    whole, whole_lengths, _ = pruned.encoder(FEATS, LENGTHS)
    out, lengths, _ = pruned(FEATS, LENGTHS)
    assert torch.equal(lengths, whole_lengths)
    for b, n in enumerate(lengths.tolist()):
        assert torch.equal(out[b, :n], whole[b, :n])


def test_gradients_go_through_the_frames_that_stay():
    pruned, taken = encoder(), []
    pruned.encoder.register_forward_hook(lambda m, a, out: taken.append(out[0]))
    pruned.encoder.register_forward_hook(lambda m, a, out: out[0].retain_grad())
    out, lengths, _ = pruned(FEATS, LENGTHS)
    out.sum().backward()
    indices, _ = staying_frames(taken[0], pruned.encoder(FEATS, LENGTHS)[1], 0.5)
    for b, k in enumerate(lengths.tolist()):
        stays = torch.zeros(taken[0].shape[1])
        stays[indices[b, :k]] = 1.0
        assert torch.equal(taken[0].grad[b], stays[:, None].expand(-1, 8))


def test_outputs_of_layers_lose_the_same_frames():
    pruned = encoder("conformer", interctc_layer_idx=[1])
    (whole, layers), lengths, _ = pruned.encoder(FEATS, LENGTHS)
    indices, kept = staying_frames(whole, lengths, 0.5)
    (out, same), got, _ = pruned(FEATS, LENGTHS)
    assert torch.equal(got, kept) and [n for n, _ in same] == [n for n, _ in layers] == [1]
    for b, k in enumerate(kept.tolist()):
        assert torch.equal(out[b, :k], whole[b, indices[b, :k]])
        assert torch.equal(same[0][1][b, :k], layers[0][1][b, indices[b, :k]])
    (out, every), _, _ = encoder("conformer")(FEATS, LENGTHS, return_all_hs=True)
    assert len(every) == 2 and every[0].shape == out.shape


def test_states_of_a_recurrent_encoder_pass_through():
    torch.manual_seed(0)
    conf = {"hidden_size": 4, "output_size": 6, "num_layers": 1, "bidirectional": False}
    conf["subsample"] = None
    pruned = TokenPruningEncoder(20, "rnn", conf).eval()
    out, lengths, states = pruned(FEATS, LENGTHS)
    assert lengths.tolist() == [45, 24] and out.shape == (2, 45, 6) and len(states) == 1
    again, _, _ = pruned(FEATS, LENGTHS, states)
    assert not torch.equal(again, out)  # it went on from there


def test_an_encoder_from_weights_gets_them_back_after_init(tiny):
    conf = {"model": tiny["hubert"]}
    pruned = TokenPruningEncoder(1, "pruned_ssl", conf)
    before = {name: value.clone() for name, value in pruned.state_dict().items()}
    with torch.no_grad():
        for parameter in pruned.parameters():
            parameter.zero_()
    pruned.reload_pretrained_parameters()
    assert all(torch.equal(v, before[k]) for k, v in pruned.state_dict().items())
    encoder().reload_pretrained_parameters()  # has nothing to put back


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "lstm"}, "token_pruning: unknown encoder 'lstm', choose from .*conformer"),
        ({"encoder": "token_pruning"}, "unknown encoder 'token_pruning'"),
        ({"encoder": None}, "unknown encoder 'None'"),
        ({"rate": 1.0}, r"rate is 1.0, but has to be in \[0, 1\)"),
        ({"rate": -0.1}, r"\[0, 1\)"),
        ({"score": "norm"}, "unknown score 'norm', choose from neighbours, mean"),
        (
            {"encoder_conf": {"interctc_layer_idx": [1], "interctc_use_conditioning": True}},
            "'transformer' conditions on CTC, .* set interctc_use_conditioning to false",
        ),
    ],
)
def test_wrong_options(options, message):
    conf = {**TINY, **options.pop("encoder_conf", {})}
    with pytest.raises(ValueError, match=message):
        TokenPruningEncoder(20, **{"encoder": "transformer", "encoder_conf": conf, **options})


def build(task, folder, **config):
    """A model as training makes it of a YAML file, and as inference makes it of config.yaml."""
    (folder / "train.yaml").write_text(yaml.safe_dump(config))
    args = ["--config", str(folder / "train.yaml"), "--output_dir", str(folder / "exp")]
    task.main(cmd=[*args, "--dry_run", "true", "--iterator_type", "none"])
    model, args = task.build_model_from_file(folder / "exp" / "config.yaml")
    return model, args


SPEECH, SAMPLES = torch.randn(2, 8000), torch.tensor([8000, 6000])


def test_stock_classification_task(tmp_path):
    conf = {"encoder": "conformer", "encoder_conf": TINY, "rate": 0.75, "score": "mean"}
    model, args = build(
        CLSTask,
        tmp_path,
        **FBANK,
        encoder="token_pruning",
        encoder_conf=conf,
        token_list=["cat", "dog", "<unk>"],
    )
    assert args.encoder_conf == conf
    heard = []
    model.decoder.register_forward_hook(lambda m, given, out: heard.append(given[1].tolist()))
    loss, _, _ = model(SPEECH, SAMPLES, torch.tensor([[0], [1]]), torch.tensor([1, 1]))
    loss.backward()
    with torch.no_grad():
        _, frames, _ = model.encoder.encoder(*model.frontend(SPEECH, SAMPLES))
    assert heard == [[round(0.25 * n) for n in frames.tolist()]]
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_stock_understanding_task(tmp_path):
    conf = {"encoder": "transformer", "encoder_conf": {**TINY, "interctc_layer_idx": [1]}}
    model, _ = build(
        SLUTask,
        tmp_path,
        **FBANK,
        encoder="token_pruning",
        encoder_conf=conf,
        decoder="transformer",
        decoder_conf={"attention_heads": 2, "linear_units": 8, "num_blocks": 1},
        model_conf={"ctc_weight": 0.0},
        token_list=["<blank>", "<unk>", "on", "off", "<sos/eos>"],
        transcript_token_list=["<blank>", "<unk>", "<sos/eos>"],
        token_type="word",
    )
    text = torch.tensor([[2], [3]]), torch.tensor([1, 1])
    loss, _, _ = model(SPEECH, SAMPLES, *text)
    loss.backward()
    assert any(p.grad is not None for p in model.encoder.parameters())


def test_pooling_counts_the_frames_that_stay():
    torch.manual_seed(0)
    x, lengths = torch.randn(2, 5, 30), torch.tensor([30, 17])
    pruned = TokenPruningPooling(5, "stats", rate=0.6)
    assert pruned.output_size() == 10
    got = pruned(x, feat_lengths=lengths)
    indices, kept = staying_frames(x.transpose(1, 2), lengths, 0.6)
    for b, k in enumerate(kept.tolist()):
        frames = x[b, :, indices[b, :k]]
        want = torch.cat([frames.mean(1), frames.var(1, unbiased=False).sqrt()])
        torch.testing.assert_close(got[b], want)
    whole = TokenPruningPooling(5, "mean", rate=0.0)
    torch.testing.assert_close(whole(x, feat_lengths=lengths)[1], x[1, :, :17].mean(1))
    torch.testing.assert_close(whole(x), x.mean(-1))
    with pytest.raises(ValueError, match="each needs one at least"):
        whole(x, feat_lengths=torch.tensor([30, 0]))
    with pytest.raises(ValueError, match="unknown pooling 'max', choose from chn_attn_stat, mean"):
        TokenPruningPooling(5, "max")


@torch.no_grad()
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_padding_behind_an_encoder_that_subsamples_is_never_kept(stride):
    torch.manual_seed(0)
    lengths = torch.tensor([61, 37, 8, 1])
    inputs = torch.randn(4, 5, 61)
    x = torch.nn.Conv1d(5, 5, 1, stride)(inputs)
    real = [-(-n // stride) for n in lengths.tolist()]  # a frame of each begun stride
    # padding that would win: each frame of it is unlike the one before
    for row, n in zip(x, real, strict=True):
        row[:, n:] = 100.0 * torch.randn(5, x.shape[2] - n)
    pooling = TokenPruningPooling(5, "mean", rate=0.5)
    got = pooling(x, feat_lengths=lengths)
    for b, n in enumerate(real):
        alone = pooling(x[b : b + 1, :, :n], feat_lengths=lengths[b : b + 1])
        torch.testing.assert_close(got[b : b + 1], alone)


def test_stock_speaker_task(tmp_path):
    model, _ = build(
        SpeakerTask,
        tmp_path,
        frontend="default",
        **FBANK,
        encoder="identity",
        encoder_conf={},
        pooling="token_pruning",
        pooling_conf={"pooling": "chn_attn_stat", "rate": 0.5},
        projector="xvector",
        projector_conf={"output_size": 6},
        loss="aamsoftmax",
        loss_conf={},
        spk_num=3,
    )
    speakers = torch.tensor([[0], [2]])
    loss, _, _ = model(SPEECH, SAMPLES, speakers)
    loss.backward()
    assert all(p.grad is not None for p in model.pooling.parameters())
