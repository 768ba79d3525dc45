"""Tiny random speech LLMs and a word-level tokenizer; nothing is downloaded."""

import contextlib
import string
from types import SimpleNamespace

import torch
from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import WordLevel
from torch import nn
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    WhisperConfig,
    WhisperFeatureExtractor,
)
from transformers.models.whisper.modeling_whisper import WhisperDecoder, WhisperEncoder

from espnet_prune.speech_llm import Compact, Diva, Qwen2Audio, SpeechLLM
from espnet_prune.speech_llm.compact import AudioAdapter
from espnet_prune.structure import SpeechEncoder, SpeechEncoderConfig

RATE = 16000
SPECIAL = (
    "<|endoftext|> <|im_start|> <|im_end|> <|AUDIO|> <|audio_bos|> <|audio_eos|> "
    "<|begin|> <|header|> <|end_header|> <|eot_id|>"
).split()
WORDS = (
    "You are a helpful assistant user system Audio what is said here who wins the red green team "
    "wait until Monday Passage Question Answer we do not know one two"
).split()


def tokenizer() -> PreTrainedTokenizerFast:
    """Words, single spaces and single marks are tokens; decoding gives the text back."""
    pieces = list(dict.fromkeys([*WORDS, *string.digits, *" \n.,:?"]))
    tokens = Tokenizer(WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token="?"))
    tokens.pre_tokenizer = pre_tokenizers.Split(Regex(r"\d|[A-Za-z]+|\s|[^\w\s]"), "isolated")
    tokens.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokens,
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        padding_side="left",
        extra_special_tokens=SPECIAL,
    )


def speech(*seconds: float, seed: int = 0) -> list[torch.Tensor]:
    """Waveforms that are not the same anywhere."""
    generator = torch.Generator().manual_seed(seed)
    waves = [0.1 * torch.randn(round(s * RATE), generator=generator) for s in seconds]
    return [w * torch.linspace(0.1, 1, len(w)) for w in waves]


@contextlib.contextmanager
def seeded():
    """What draws inside, as the constructors of models do, draws the same in whatever test."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def randomize(model: nn.Module, seed: int = 1) -> nn.Module:
    """Weights large enough, biases and norms included, that every token and place matters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


@seeded()
def qwen2_audio(seconds: int = 2) -> tuple[Qwen2AudioForConditionalGeneration, Qwen2AudioProcessor]:
    """A model whose encoder takes chunks of so many seconds, and its processor."""
    tokens = tokenizer()
    audio = {
        "num_mel_bins": 16,
        "encoder_layers": 1,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 16,
        "d_model": 16,
        "max_source_positions": 50 * seconds,
    }
    text = {
        "model_type": "qwen2",
        "vocab_size": len(tokens),
        "hidden_size": 24,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "pad_token_id": tokens.pad_token_id,
    }
    config = Qwen2AudioConfig(
        audio_config={"model_type": "qwen2_audio_encoder", **audio},
        text_config=text,
        audio_token_index=tokens.convert_tokens_to_ids("<|AUDIO|>"),
    )
    model = randomize(Qwen2AudioForConditionalGeneration(config))
    model.generation_config.pad_token_id = tokens.pad_token_id
    extractor = WhisperFeatureExtractor(feature_size=16, chunk_length=seconds)
    return model, Qwen2AudioProcessor(extractor, tokens)


@seeded()
def llama(vocabulary: int) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=24,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        bos_token_id=None,
        eos_token_id=None,
    )
    return randomize(LlamaForCausalLM(config))


def whisper(seconds: int) -> WhisperConfig:
    return WhisperConfig(
        num_mel_bins=16,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_source_positions=50 * seconds,
        max_target_positions=448,
        vocab_size=20,
        pad_token_id=0,
    )


class Connector(nn.Module):
    """Decoder over learned queries, and projection, as the facts describe DiVA's."""

    def __init__(self, config: WhisperConfig, width: int):
        super().__init__()
        self.decoder = WhisperDecoder(config)
        self.query_tokens = nn.Parameter(torch.randn(448, config.d_model))
        self.projection = nn.Linear(config.d_model, width)

    def forward(self, x, output_device):
        queries = self.query_tokens.expand(len(x), -1, -1)
        hidden = self.decoder(inputs_embeds=queries, encoder_hidden_states=x).last_hidden_state
        return self.projection(hidden).to(output_device)


class DivaModel(nn.Module):
    """What the adapter uses of the published model."""

    @seeded()
    def __init__(self, seconds: int = 2):
        super().__init__()
        config = whisper(seconds)
        self.whisper_encoder = randomize(WhisperEncoder(config))
        self.connector = randomize(Connector(config, 24))
        self.tokenizer = tokenizer()
        self.llm_decoder = llama(len(self.tokenizer))
        extractor = WhisperFeatureExtractor(feature_size=16, chunk_length=seconds)
        self.processor = SimpleNamespace(feature_extractor=extractor)
        self.pre_system = self.ids("<|begin|><|header|>system<|end_header|>\n")
        self.post_system = self.ids("<|eot_id|><|header|>user<|end_header|>\n")
        self.final_header = self.ids("<|eot_id|><|header|>assistant<|end_header|>\n")

    def ids(self, text):
        return torch.tensor(self.tokenizer(text).input_ids)


class Plain(SpeechLLM):
    """A plain-text prompt around pairs of Whisper's frames: another adapter of the interface."""

    answer_lead = " "

    @seeded()
    def __init__(self, seconds: int = 2):
        tokens = tokenizer()
        super().__init__(llama(len(tokens)), tokens, seconds * RATE)
        self.encoder = randomize(WhisperEncoder(whisper(seconds)))
        self.extractor = WhisperFeatureExtractor(feature_size=16, chunk_length=seconds)
        self.projection = nn.Linear(16, 24)

    def encode(self, chunks):
        features = self.extractor(chunks, sampling_rate=RATE, return_tensors="pt").input_features
        pairs = self.encoder(features).last_hidden_state.unflatten(1, (-1, 2)).mean(2)
        lengths = [-(-len(chunk) // 640) for chunk in chunks]
        return [row[:n] for row, n in zip(self.projection(pairs), lengths, strict=True)]

    def layout(self, question):
        parts = "Passage: ", f" Question: {question} Answer:"
        return tuple(self.tokenizer(part).input_ids for part in parts)


@seeded()
def compact(seconds: int = 2) -> Compact:
    tokens = tokenizer()
    base = SpeechEncoderConfig(family="whisper", base=whisper(seconds).to_dict())
    adapter = randomize(
        AudioAdapter(16, 24, range(4, 30), 16, blocks=2, kernel=3, heads=2, spread=0.85)
    )
    return Compact(randomize(SpeechEncoder(base)), adapter, llama(len(tokens)), tokens)


ADAPTERS = {
    "compact": compact,
    "qwen2_audio": lambda seconds=2: Qwen2Audio(*qwen2_audio(seconds)),
    "diva": lambda seconds=2: Diva(DivaModel(seconds)),
    "plain": Plain,
}
