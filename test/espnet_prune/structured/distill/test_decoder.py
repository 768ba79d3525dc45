import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import WhisperForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

from espnet_prune.structured import load_encoder
from espnet_prune.structured.distill import DistillModel
from espnet_prune.structured.distill.decoder import PADDING, Decoder, Transcript
from test.espnet_prune.whispers import END, NO_TIMESTAMPS, START, make_teacher

PLAIN = {"format": "pt"}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return make_teacher(tmp_path_factory.mktemp("teacher"))


def states(seed: int, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 50, 16, generator=torch.Generator().manual_seed(seed))


def test_transcript(directory):
    transcript = Transcript(directory)
    tokens = transcript("ab ")
    assert tokens[:2] == [START, NO_TIMESTAMPS] and tokens[-1] == END and len(tokens) >= 2 + 2 + 1
    assert len(transcript("a" * 100)) == 40


def test_divergence_is_that_of_the_whole_models_predictions(directory):
    decoder = Decoder(directory)
    model = WhisperForConditionalGeneration.from_pretrained(directory).eval()
    tokens = torch.tensor([Transcript(directory)("abc"), Transcript(directory)("dbf")])
    teacher, student = states(0), states(1)
    with torch.no_grad():
        p, q = (
            model(encoder_outputs=BaseModelOutput(each), decoder_input_ids=tokens[:, :-1])
            .logits.double()
            .log_softmax(-1)
            for each in (teacher, student)
        )
    expected = (p.exp() * (p - q)).sum(-1).mean()
    found = decoder.divergence(teacher, student, tokens)
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)
    assert decoder.divergence(teacher, teacher, tokens).item() == pytest.approx(0, abs=1e-6)


def test_padding_does_not_count(directory):
    decoder, transcript = Decoder(directory), Transcript(directory)
    rows = [torch.tensor(transcript(text)) for text in ("abcdef", "a")]
    tokens = torch.nn.utils.rnn.pad_sequence(rows, True, PADDING)
    teacher, student = states(0), states(1)
    whole = decoder.divergence(teacher, student, tokens)
    each = [
        decoder.divergence(teacher[i : i + 1], student[i : i + 1], row[None])
        for i, row in enumerate(rows)
    ]
    counts = [len(row) - 1 for row in rows]
    mean = sum(n * value for n, value in zip(counts, each, strict=True)) / sum(counts)
    assert whole.item() == pytest.approx(mean.item(), rel=1e-5)


def build(directory, **kwargs):
    encoders = load_encoder(directory), load_encoder(directory)
    with torch.no_grad():
        encoders[1].backbone.conv2.bias.add_(0.1)
    return DistillModel(*encoders, decoder=Decoder(directory), decoder_loss=0.5, **kwargs)


def test_loss_through_the_decoder(directory):
    model = build(directory, layers=[1]).train()
    speech, lengths = 0.1 * states(2, 1).flatten()[None, :8000], torch.tensor([8000])
    text = torch.tensor([Transcript(directory)("abc")])
    loss, stats, _ = model(speech, lengths, text=text)
    total = stats["distill"] + 0.5 * stats["decoder"]
    assert loss.item() == pytest.approx(total.item()) and stats["decoder"] > 0
    loss.backward()
    assert model.encoder.backbone.layers[1].fc2.weight.grad.abs().sum() > 0
    assert not [name for name in model.state_dict() if "decoder" in name]
    with pytest.raises(ValueError, match="decoder_loss: the data has no `text`"):
        model(speech, lengths)


def test_share_of_full_windows(directory):
    model, widths = build(directory, full_window=0.25).train(), []
    speech, lengths = 0.1 * states(2, 1).flatten()[None, :8000], torch.tensor([8000])
    text = torch.tensor([Transcript(directory)("abc")])
    for _ in range(8):
        widths.append(model(speech, lengths, text=text)[2].item())
        model.updates += 1
    assert sorted(widths) == [25.0] * 6 + [50.0] * 2
    assert model.eval()(speech, lengths, text=text)[2].item() == 50
    for share in (-0.1, 1.1):
        with pytest.raises(ValueError, match=r"full_window is .*, but has to be in \[0, 1\]"):
            build(directory, full_window=share)


def test_a_decoder_that_is_not_there_or_no_numbers(directory, tmp_path):
    """`transformers` draws what is missing at random, with a warning."""
    shutil.copytree(directory, tmp_path, dirs_exist_ok=True)
    state = load_file(directory / "model.safetensors")
    name = "model.decoder.layers.0.fc1.weight"
    save_file({**state, name: state[name] * torch.nan}, tmp_path / "model.safetensors", PLAIN)
    with pytest.raises(ValueError, match=f"{tmp_path}: tensor {name} has NaN or infinite values"):
        Decoder(tmp_path)
    del state[name]
    save_file(state, tmp_path / "model.safetensors", PLAIN)
    with pytest.raises(ValueError, match=f"{tmp_path}: lacks {name}: its decoder cannot be used"):
        Decoder(tmp_path)
