"""Fine-tuned models are pruned as a whole: the head is kept, saved, and run by `transformers`."""

import json

import pytest
import torch
import transformers

import espnet_prune
from espnet_prune.cli import main
from espnet_prune.structured import GatedEncoder, load_encoder, load_model, slim
from espnet_prune.structured.encoder_directory import write_encoder
from espnet_prune.structured.heads import load_head
from test.espnet_prune.structured.families.zoo import ZOO
from test.espnet_prune.tiny import batch, random_masks

LETTERS = list("|'ABCDEFGHIJKLMNOPQRSTUVW")
VOCABULARY = {token: i for i, token in enumerate(["<pad>", "<s>", "</s>", "<unk>", *LETTERS])}


def waves(count=3, samples=9000):
    generator = torch.Generator().manual_seed(1)
    return [0.1 * torch.randn(samples + 640 * i, generator=generator) for i in range(count)]


def processor(folder, large=True):
    """Files of a `Wav2Vec2Processor` with a letter for each output."""
    file = folder / "letters.json"
    folder.mkdir(exist_ok=True)
    file.write_text(json.dumps(VOCABULARY))
    tokenizer = transformers.Wav2Vec2CTCTokenizer(str(file), word_delimiter_token="|")
    extract = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=large)
    transformers.Wav2Vec2Processor(extract, tokenizer).save_pretrained(folder)
    file.unlink()


@pytest.fixture
def ctc(tmp_path):
    """The directory of a small random `Wav2Vec2ForCTC`."""
    config = {**ZOO["wav2vec2"].config, "vocab_size": len(VOCABULARY), "pad_token_id": 0}
    torch.manual_seed(0)
    model = transformers.Wav2Vec2ForCTC(transformers.Wav2Vec2Config(**config))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(tmp_path / "ctc")
    processor(tmp_path / "ctc")
    return tmp_path / "ctc"


def test_a_pruned_ctc_model_in_a_pipeline(ctc, tmp_path):
    """Transcripts of `transformers.pipeline` are those of the dense model under the same masks."""
    small = espnet_prune.prune(
        ctc,
        waves(),
        0.4,
        tmp_path / "pruned",
        method="l0",
        updates=2,
        distill_updates=0,
        device="cpu",
    )
    dense = load_encoder(ctc)
    share = 1 - small.num_parameters() / dense.num_parameters()
    assert share == pytest.approx(0.4, abs=0.02)
    asr = transformers.pipeline("automatic-speech-recognition", model=str(tmp_path / "pruned"))
    head = load_head(tmp_path / "pruned")
    texts = []
    for wave in waves():
        text = asr(wave.numpy())["text"]
        states = small(wave[None]).last_hidden_state
        ids = head.predictor().log_probabilities(states).argmax(-1)[0]
        texts.append(text)
        assert text == asr.tokenizer.decode(ids)
    assert all(texts) and len(set(texts)) > 1


@torch.no_grad()
def test_logits_are_those_of_the_masked_model(ctc, tmp_path):
    dense, head = load_encoder(ctc), load_head(ctc)
    masks = random_masks(dense.plan(), torch.Generator().manual_seed(3))
    write_encoder(slim(dense, masks), tmp_path / "pruned", head=head)
    speech, lengths = batch()
    masked = GatedEncoder(dense).masked_forward(dense.plan().canonical(masks), speech, lengths)
    wanted = torch.nn.functional.linear(
        masked.last_hidden_state, head.state["lm_head.weight"], head.state["lm_head.bias"]
    )
    given = dense.prepare(speech, lengths)
    for model in (
        load_model(tmp_path / "pruned"),
        transformers.AutoModelForCTC.from_pretrained(tmp_path / "pruned"),
    ):
        found = model(given.features, attention_mask=given.mask).logits
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    encoder = load_encoder(tmp_path / "pruned")
    assert encoder.config.head is None
    again = transformers.AutoModel.from_pretrained(tmp_path / "pruned")
    again.save_pretrained(tmp_path / "alone")
    assert load_head(tmp_path / "alone") is None
    names = {file.name for file in (tmp_path / "pruned").iterdir()}
    assert {"tokenizer_config.json", "vocab.json"} <= names


#: a head of each kind, with a family and what its class wants beside the encoder's sizes
HEADS = {
    "WavLMForXVector": (
        "wavlm",
        {"tdnn_dim": (8, 8), "tdnn_kernel": (3, 1), "tdnn_dilation": (1, 1)},
    ),
    "HubertForSequenceClassification": ("hubert", {"classifier_proj_size": 8}),
    "UniSpeechSatForAudioFrameClassification": ("unispeech-sat", {}),
    "Wav2Vec2BertForCTC": ("wav2vec2-bert", {"vocab_size": 20}),
    "Data2VecAudioForCTC": ("data2vec-audio", {}),
    "SEWForCTC": ("sew", {}),
    "Wav2Vec2ConformerForCTC": ("wav2vec2-conformer", {"vocab_size": 20}),
    "WavLMForSequenceClassification": ("wavlm", {"use_weighted_layer_sum": True}),
    "ParakeetForCTC": ("parakeet_encoder", {"vocab_size": 20, "pad_token_id": 19}),
}


@pytest.mark.parametrize("architecture", HEADS)
def test_every_kind_of_head(architecture, tmp_path):
    family, options = HEADS[architecture]
    sizes = ZOO[family].config
    if architecture == "ParakeetForCTC":
        sizes = {"encoder_config": sizes}
    if architecture.endswith("XVector"):
        options = {**options, "xvector_output_dim": 8}
    kind = getattr(transformers, architecture)
    torch.manual_seed(0)
    model = kind(kind.config_class(**sizes, **options)).eval()
    model.save_pretrained(tmp_path / "dense")
    encoder = load_encoder(tmp_path / "dense")
    given = encoder.prepare(*batch())
    with torch.no_grad():
        wanted = model(given.features, attention_mask=given.mask).logits
        found = load_model(tmp_path / "dense")(given.features, attention_mask=given.mask).logits
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    small = espnet_prune.prune(
        tmp_path / "dense", waves(), 0.3, tmp_path / "pruned", distill_updates=2, device="cpu"
    )
    pruned = load_model(tmp_path / "pruned")
    if "conv_stride" in sizes:  # by which pipelines cut long audio
        ratio = model.config.inputs_to_logits_ratio
        assert pruned.config.inputs_to_logits_ratio == ratio == 320
    head = load_head(tmp_path / "pruned")
    assert all(
        torch.equal(v, load_head(tmp_path / "dense").state[k]) for k, v in head.state.items()
    )
    with torch.no_grad():
        logits = pruned(small.prepare(waves()[0][None]).features).logits
        if "use_weighted_layer_sum" not in options:
            states = small(waves()[0][None]).last_hidden_state
            expected = head.predictor().log_probabilities(states)
            torch.testing.assert_close(logits.log_softmax(-1), expected, atol=1e-5, rtol=1e-4)
    again = espnet_prune.prune(tmp_path / "pruned", waves(), 0.1, tmp_path / "twice", device="cpu")
    assert again.num_parameters() < small.num_parameters()
    assert load_model(tmp_path / "twice").head.state_dict().keys() == head.state.keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architectures": ["Wav2Vec2Model"]}, "is an encoder alone, or its head is none of"),
        ({"vocab_size": 7}, r"tensor lm_head.\w+ is .* instead of"),
        ({"architectures": ["HubertForSequenceClassification"]}, "lacks tensors classifier"),
        ({"architectures": ["NoSuchForCTC"]}, "config.json: 'head' is 'NoSuchForCTC', but has to"),
    ],
)
def test_heads_that_do_not_fit(ctc, change, message):
    file = ctc / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(ValueError, match=f"{ctc}.*{message}"):
        load_model(ctc)


def export(model, output):
    options = ["--to", "transformers", "--model", str(model), "--output", str(output)]
    main(["encoder", "export", *options])
    return (output / "README.md").read_text()


@pytest.mark.parametrize("expressible", [True, False])
def test_an_export_for_transformers(ctc, tmp_path, expressible):
    """In its own class, or in ours: the card says which, and a pipeline gives the same texts."""
    dense = load_encoder(ctc)
    masks = {n: torch.ones(s.size) for n, s in dense.plan().sites.items()}
    for name, site in dense.plan().sites.items():
        if site.kind == "ffn_dim":
            masks[name][:7] = 0
        elif name.endswith("conv_layers.1.cnn") or (site.kind == "qk" and not expressible):
            masks[name][2:5] = 0
    write_encoder(slim(dense, masks), tmp_path / "pruned", head=load_head(ctc))
    card = export(tmp_path / "pruned", tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["model_type"] == ("wav2vec2" if expressible else "espnet_prune")
    own = "`transformers`' own `Wav2Vec2ForCTC` loads it" in card
    assert own is expressible and ("import espnet_prune.structured" in card) is not expressible
    if expressible:
        assert config["intermediate_size"] == 13 and list(config["conv_dim"]) == [12, 9, 12]
    texts = [
        [
            transformers.pipeline("automatic-speech-recognition", model=str(folder))(w.numpy())
            for w in waves()
        ]
        for folder in (tmp_path / "pruned", tmp_path / "out")
    ]
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    "layout", ["wavlm", "unispeech-sat base", "data2vec-audio", "sew", "parakeet_encoder"]
)
def test_an_export_without_a_head(layout, tmp_path):
    ZOO[layout].make().save_pretrained(tmp_path / "dense")
    card = export(tmp_path / "dense", tmp_path / "out")
    loaded = transformers.AutoModel.from_pretrained(tmp_path / "out").eval()
    dense = load_encoder(tmp_path / "dense")
    given = dense.prepare(waves()[0][None])
    with torch.no_grad():
        wanted = dense(waves()[0][None]).last_hidden_state
        own = layout == "parakeet_encoder"
        found = loaded(waves()[0][None]) if own else loaded(given.features)
    torch.testing.assert_close(found.last_hidden_state, wanted, atol=1e-4, rtol=1e-4)
    assert ("espnet_prune.structured" in card) is own
    with pytest.raises(SystemExit):
        export(tmp_path / "dense", tmp_path / "out")
