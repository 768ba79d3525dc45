"""A speech LLM that fits two CPU cores: Whisper tiny.en, an adapter, SmolLM2-135M.

    waveform -> frozen encoder (50 Hz) -> averages of pairs x_t (25 Hz) -> adapter -> p_t
    S_t = sum_k p_t(k) E_k + p_t(blank) (sum_k q_t(k) E_k + e_blank)   -> language model with LoRA

The adapter is a CTC recogniser of the language model's own tokens: k runs over the token ids of
its training text, E_k are their embeddings, e_blank is one learned vector. CTC says p_t(k) in one
frame of a word and blank in all others; q_t spreads it over the frames around. So a word can be
read where it is said, and the tokens around tell token pruning, by their similarity to a question,
what is said there. Only adapter and LoRA weights are stored; encoder and language model are named,
by directory or hub name.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from espnet_prune.extras import load_extra
from espnet_prune.hub.pretrained import prepare
from espnet_prune.speech_llm.base import CHUNK_SAMPLES, SpeechLLM
from espnet_prune.structured import SpeechEncoder, load_encoder
from espnet_prune.tokens.scores import inside

CONFIG, WEIGHTS = "compact.json", "compact.safetensors"
#: samples of an audio token: two frames of the encoder
TOKEN_SAMPLES = 640
#: frames over which a token is spread to both sides, 0.24 s
REACH = 6
DTYPES = ("float32", "bfloat16", "auto")
LORA_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj")

# The prompt, in training as in use.
BEFORE = "Passage:"
TRANSCRIBE = " Transcript:"
#: between the prompts, and the answers, of one recording in training data
SEPARATOR = "\t"


def ask(question: str) -> str:
    """What stands between the audio and an answer."""
    return f" Question: {question} Answer:"


@dataclass(frozen=True)
class CompactConfig:
    """What `compact.json` says.

    Args:
        encoder: dense or pruned encoder, a directory or hub name.
        language_model: causal language model of `transformers`, the same.
        token_ids: ids of the language model's tokens that the adapter tells apart.
        width, blocks, kernel, heads, feedforward, spread, contrast: of the adapter.
        lora_rank, lora_alpha: of LoRA; its output is scaled by alpha / rank.
    """

    encoder: str
    language_model: str
    token_ids: tuple[int, ...]
    width: int = 512
    blocks: int = 3
    kernel: int = 5
    heads: int = 0
    feedforward: int = 1024
    spread: float = 0.0
    contrast: float = 0.0
    lora_rank: int = 16
    lora_alpha: float = 32.0

    def adapter(self, inputs: int, outputs: int, dropout: float = 0.0) -> AudioAdapter:
        """A new adapter of these shapes; arguments as there."""
        names = "width", "blocks", "kernel", "heads", "feedforward", "spread", "contrast"
        shape = {name: getattr(self, name) for name in names}
        return AudioAdapter(inputs, outputs, self.token_ids, **shape, dropout=dropout)


class TransformerLayer(nn.Module):
    """Self-attention and feedforward, both with the norm first.

    Not torch's layer: that one takes a bias of the scores in training, but in evaluation gives
    wrong numbers with it (2.12).
    """

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.inner = nn.Linear(width, feedforward)
        self.outer = nn.Linear(feedforward, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """(B, T, width) with a bias of the scores, (B, heads, T, T)."""
        parts = self.qkv(self.norms[0](x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        # On CPUs the gradient of torch's fused attention takes three times as long
        heard = (q @ k.transpose(2, 3) * q.shape[-1] ** -0.5 + bias).softmax(-1) @ v
        x = x + self.dropout(self.out(heard.transpose(1, 2).flatten(2)))
        y = nn.functional.gelu(self.inner(self.norms[1](x)))
        return x + self.dropout(self.outer(y))


class AudioAdapter(nn.Module):
    """Blocks over time from encoder frames to tokens of a language model.

    A block is a residual convolution and, where there are heads, a Transformer's layer behind it
    (self-attention, feedforward), which hears what is said around. Attention falls with distance,
    so that it does the same in windows longer than those of the training (arXiv 2108.12409):

        softmax_s(q_t k_s / sqrt(d) - 2^(-8 h / heads) |t - s|),   h = 1 ... heads

    Args:
        inputs: size of a frame.
        outputs: size of the language model's embeddings.
        token_ids: as in `CompactConfig`; class 0 is blank and class k + 1 `token_ids[k]`.
        width: channels.
        blocks: their number.
        kernel: of the convolutions, odd.
        heads: of self-attention, a divisor of the width; 0 for convolutions only.
        feedforward: inner channels of the Transformer's layers.
        spread: in [0, 1): how much of a token is left one frame further in blanks, see `embed`.
        contrast: at least 0: how far blanks lie from text, in means of the embeddings, see `embed`.
        dropout: in training, after convolutions and in the Transformer's layers.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        token_ids: Sequence[int],
        width: int = 512,
        blocks: int = 3,
        kernel: int = 5,
        heads: int = 0,
        feedforward: int = 1024,
        spread: float = 0.0,
        contrast: float = 0.0,
        dropout: float = 0.1,
    ):
        super().__init__()
        if heads and width % heads:
            raise ValueError(f"width is {width}, but has to be a multiple of heads, {heads}")
        if kernel % 2 == 0:
            raise ValueError(f"kernel is {kernel}, but has to be odd")
        if not 0.0 <= spread < 1.0:
            raise ValueError(f"spread is {spread}, but has to be in [0, 1)")
        if contrast < 0.0:
            raise ValueError(f"contrast is {contrast}, but has to be 0 or more")
        self.spread = spread
        self.contrast = contrast
        self.input = nn.Linear(inputs, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(blocks))
        self.convolutions = nn.ModuleList(
            nn.Conv1d(width, width, kernel, padding=kernel // 2) for _ in range(blocks)
        )
        self.layers = nn.ModuleList(
            TransformerLayer(width, heads, feedforward, dropout)
            for _ in range(blocks if heads else 0)
        )
        slopes = 2.0 ** (-8.0 * torch.arange(1, heads + 1) / max(heads, 1))
        self.register_buffer("slopes", slopes, persistent=False)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, len(token_ids) + 1)
        self.blank = nn.Parameter(torch.randn(outputs) * 0.05)
        self.register_buffer("token_ids", torch.tensor(list(token_ids)), persistent=False)

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """
        Args:
            frames: (B, T, inputs); what is beyond the lengths (B,) changes nothing before it.
        Returns: (B, T, 1 + tokens) logits.
        """
        return self.classify(self.hidden(frames, lengths)[-1])

    def hidden(self, frames: Tensor, lengths: Tensor) -> list[Tensor]:
        """(B, T, width) before, between and after the blocks; arguments as for `forward`."""
        real = inside(lengths, frames.shape[1])
        found = [self.input(frames)]
        if not frames.shape[1]:  # a convolution refuses it
            return found
        bias = self._distances(real) if self.layers else None
        for block, (norm, convolution) in enumerate(
            zip(self.norms, self.convolutions, strict=True)
        ):
            x = found[-1]
            y = convolution((norm(x) * real[..., None]).transpose(1, 2)).transpose(1, 2)
            x = x + self.dropout(nn.functional.gelu(y))
            found.append(self.layers[block](x, bias) if self.layers else x)
        return found

    def classify(self, hidden: Tensor) -> Tensor:
        """(B, T, 1 + tokens) logits of what is behind the last block, (B, T, width)."""
        return self.output(self.norm(hidden))

    def _distances(self, real: Tensor) -> Tensor:
        """What attention adds to its scores, (B, heads, T, T); `real` is (B, T)."""
        at = torch.arange(real.shape[1], device=real.device)
        bias = -self.slopes[:, None, None] * (at[:, None] - at).abs()
        # No -inf: a row without a frame would be NaN
        return bias.expand(len(real), -1, -1, -1).masked_fill(~real[:, None, None], -1e4)

    def embed(self, logits: Tensor, lengths: Tensor, embeddings: Tensor) -> Tensor:
        """Audio tokens.

            S_t = sum_k p_t(k) E_k + p_t(blank) (sum_k q_t(k) E_k + e_blank - contrast mean_v E_v)
            q_t(k) = sum_s spread^|t - s| p_s(k) / max(1, w_t)     |t - s| <= REACH
            w_t = sum_s spread^|t - s| (1 - p_s(blank))

        Without `spread` q_t is 0. What all text has in common is the mean of the embeddings; blanks
        lie on its other side, so that they are like no query and go before words do.

        Args:
            logits: (B, T, 1 + tokens).
            lengths: (B,); what is beyond them is not spread.
            embeddings: (vocabulary, D) of the language model.
        Returns: (B, T, D).
        """
        p = logits.softmax(-1) * inside(lengths, logits.shape[1])[..., None]
        said = p[..., 1:] @ embeddings[self.token_ids].to(p)
        between = self.blank - self.contrast * embeddings.mean(0).to(p)
        if self.spread and logits.shape[1]:  # a convolution refuses an empty input
            mass = p[..., 1:].sum(-1, keepdim=True)
            near, mass = self._spread(torch.cat([said, mass], -1)).split([said.shape[-1], 1], -1)
            between = near / mass.clamp_min(1.0) + between
        return said + p[..., :1] * between

    def _spread(self, x: Tensor) -> Tensor:
        """(B, T, D): the sum over frames s of spread^|t - s| x_s, |t - s| <= REACH."""
        distance = torch.arange(-REACH, REACH + 1, device=x.device).abs()
        kernel = (self.spread**distance).to(x)
        rows = x.transpose(1, 2)
        spread = nn.functional.conv1d(
            rows.flatten(0, 1)[:, None], kernel[None, None], padding=REACH
        )
        return spread[:, 0].view_as(rows).transpose(1, 2)

    def greedy(self, logits: Tensor, lengths: Tensor) -> list[list[int]]:
        """Token ids of the best CTC path: repetitions merged, then blanks removed."""
        rows = []
        for best, length in zip(logits.argmax(-1), lengths.tolist(), strict=True):
            merged = best[:length].unique_consecutive()
            rows.append(self.token_ids[merged[merged > 0] - 1].tolist())
        return rows


def packs(lengths: Sequence[int], most: int) -> list[list[tuple[int, int]]]:
    """Short pieces of audio put into windows, so that few of them are encoded and all are full.

    Args:
        lengths: of the pieces, in samples; none is longer than `most`.
        most: samples of a window.
    Returns: for each window (piece, first sample): in order, each at the beginning of an audio
        token, with a blank of a token and more after it.
    """
    windows: list[list[tuple[int, int]]] = []
    end = most
    for piece, length in enumerate(lengths):
        if not windows or end + length > most:
            windows.append([])
            end = 0
        windows[-1].append((piece, end))
        end = (-(-(end + length) // TOKEN_SAMPLES) + 1) * TOKEN_SAMPLES
    return windows


def encode_packed(encoder: SpeechEncoder, waves: Sequence[np.ndarray]) -> list[Tensor]:
    """What `encode_pairs` gives for pieces that share windows, see `packs`.

    A model that is given recordings in windows of 30 s hears frames with speech around them, not
    frames of a short piece with silence behind it.

    Args:
        waves: as for `encode_pairs`.
    Returns: a tensor (N_i, D) each, N_i = ceil(T_i / 640) at most.
    """
    most = encoder.family_of.maximum_samples(encoder.config.base) or CHUNK_SAMPLES
    windows = packs([len(wave) for wave in waves], most)
    full = []
    for window in windows:
        last, start = window[-1]
        full.append(np.zeros(start + len(waves[last]), np.float32))
        for piece, start in window:
            full[-1][start : start + len(waves[piece])] = waves[piece]
    found = {}
    for window, frames in zip(windows, encode_pairs(encoder, full), strict=True):
        for piece, start in window:
            first = start // TOKEN_SAMPLES
            found[piece] = frames[first : first + -(-len(waves[piece]) // TOKEN_SAMPLES)]
    return [found[piece] for piece in range(len(waves))]


@torch.no_grad()
def encode_pairs(encoder: SpeechEncoder, waves: Sequence[np.ndarray]) -> list[Tensor]:
    """Last hidden states of the frozen encoder, averaged in pairs: 25 a second.

    Whisper gets its full 30 s window, as it was trained.

    Args:
        waves: float32 waveforms (T_i,) at 16 kHz, at most a window long.
    Returns: a tensor (N_i, D) each; N_i is 0 for what is too short for a frame.
    """
    least = encoder.family_of.minimum_samples(encoder.config.base)
    found = [torch.zeros(0, encoder.hidden_size, device=encoder.device) for _ in waves]
    rows = [i for i, wave in enumerate(waves) if len(wave) >= least]
    if not rows:
        return found
    lengths = torch.tensor([len(waves[i]) for i in rows], device=encoder.device)
    speech = pad_sequence([torch.from_numpy(waves[i]) for i in rows], batch_first=True)
    out = encoder(speech.to(encoder.device), lengths, True)
    hidden = out.last_hidden_state
    hidden = nn.functional.pad(hidden, (0, 0, 0, hidden.shape[1] % 2))
    pairs = hidden.unflatten(1, (-1, 2)).mean(2)
    for i, row, frames in zip(rows, pairs, out.lengths.tolist(), strict=True):
        found[i] = row[: (frames + 1) // 2]
    return found


def with_lora(lm, config: CompactConfig):
    """The language model, frozen, with LoRA (arXiv 2106.09685) in all attention projections.

    Returns: a `peft` model around `lm`, which is changed in place.
    """
    peft = load_extra("peft", "speech-llm")
    lora = peft.LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        target_modules=list(LORA_MODULES),
        task_type="CAUSAL_LM",
    )
    return peft.get_peft_model(lm, lora)


def lora_parameters(model) -> dict[str, nn.Parameter]:
    """The LoRA weights of a `peft` model, by names of the language model's own modules."""
    return {
        name.removeprefix("base_model.model.").replace(".default.", "."): parameter
        for name, parameter in model.named_parameters()
        if ".lora_" in name
    }


def load_language_model(directory: str | Path):
    """A causal language model in float32 and evaluation mode, and its tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    lm = AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="sdpa"
    )
    return lm.eval(), AutoTokenizer.from_pretrained(directory)


class Compact(SpeechLLM):
    """The compact speech LLM; its prompt is plain text.

    Args:
        encoder: frozen.
        adapter: in evaluation mode.
        lm: language model with LoRA merged, else `first_layer` would not see it.
        tokenizer: its tokenizer.
    """

    answer_lead = " "
    recognises = True

    def __init__(self, encoder: SpeechEncoder, adapter: AudioAdapter, lm, tokenizer):
        most = encoder.family_of.maximum_samples(encoder.config.base)
        super().__init__(lm, tokenizer, most or CHUNK_SAMPLES)
        self.encoder = encoder
        self.adapter = adapter

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        device: str = "cpu",
        encoder: str | Path | None = None,
        language_model: str | Path | None = None,
        dtype: str = "float32",
    ) -> Compact:
        """Load a directory that `save_compact` has written.

        Args:
            encoder, language_model: instead of those that `compact.json` names. Names that are no
                directories are fetched once (`espnet_prune.hub.pretrained`) and kept in the
                user's cache folder.
            dtype: of the language model, `float32`, `bfloat16`, or `auto` for bfloat16 where the
                device multiplies faster in it; encoder and adapter compute in float32.
        Raises:
            FileNotFoundError: a file or a frozen part cannot be found.
            ValueError: files that are damaged or do not fit each other.
        """
        if dtype not in DTYPES:
            raise ValueError(f"dtype is '{dtype}', choose from {', '.join(DTYPES)}")
        config, weights = read_compact(model)
        frozen = load_encoder(_find(encoder or config.encoder, load_encoder))
        lm, tokenizer = load_language_model(
            _find(language_model or config.language_model, load_language_model)
        )
        width = lm.get_input_embeddings().weight.shape[1]
        adapter = config.adapter(frozen.hidden_size, width)
        lm = with_lora(lm, config)
        wanted = {f"adapter.{name}": value for name, value in adapter.state_dict().items()}
        wanted.update((f"lora.{name}", value) for name, value in lora_parameters(lm).items())
        shapes = [{name: tuple(t.shape) for name, t in ts.items()} for ts in (weights, wanted)]
        for name in sorted(shapes[0].keys() | shapes[1].keys()):
            got, due = (some.get(name) for some in shapes)
            if got != due:
                raise ValueError(
                    f"{Path(model) / WEIGHTS}: {name} is {got}, but encoder, language model and "
                    f"{CONFIG} ask for {due}"
                )
        with torch.no_grad():
            for name, value in wanted.items():
                value.copy_(weights[name])
        lm = lm.merge_and_unload().to(computing_dtype(dtype, device))
        parts = (part.to(device).eval().requires_grad_(False) for part in (frozen, adapter, lm))
        return cls(*parts, tokenizer)

    def logits(self, chunks: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
        """CTC logits (B, T, 1 + tokens) of pieces of audio, and their lengths (B,)."""
        frames = encode_pairs(self.encoder, chunks)
        lengths = torch.tensor([len(row) for row in frames], device=frames[0].device)
        return self.adapter(pad_sequence(frames, batch_first=True), lengths), lengths

    def encode(self, chunks: list[np.ndarray]) -> list[Tensor]:
        return self.listen(chunks)[0]

    @torch.no_grad()
    def listen(self, chunks: list[np.ndarray]) -> tuple[list[Tensor], list[str]]:
        """Audio tokens, and what the adapter alone hears: the text of its best CTC paths."""
        logits, lengths = self.logits(chunks)
        tokens = self.adapter.embed(logits, lengths, self._embedding.weight)
        paths = self.adapter.greedy(logits, lengths)
        return (
            [row[:n] for row, n in zip(tokens, lengths.tolist(), strict=True)],
            [self.tokenizer.decode(ids).strip() for ids in paths],
        )

    def layout(self, question: str) -> tuple[list[int], list[int]]:
        before, after = (
            self.tokenizer(part, add_special_tokens=False).input_ids
            for part in (BEFORE, ask(question))
        )
        return before, after

    def stops(self) -> dict:
        return {"eos_token_id": self.tokenizer.eos_token_id}


def save_compact(
    directory: str | Path, config: CompactConfig, adapter: AudioAdapter, lora: dict[str, Tensor]
) -> int:
    """Write `compact.json` and, in float16, `compact.safetensors`.

    Args:
        lora: as `lora_parameters` gives it.
    Returns: bytes of both files.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {f"adapter.{name}": value for name, value in adapter.state_dict().items()}
    tensors.update((f"lora.{name}", value) for name, value in lora.items())
    half = {name: value.detach().cpu().half().contiguous() for name, value in tensors.items()}
    # One line per key: the token ids are many
    rows = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in dataclasses.asdict(config).items()]
    text = "{\n  " + ",\n  ".join(rows) + "\n}\n"
    save_file(half, directory / f"{WEIGHTS}.tmp")
    (directory / f"{CONFIG}.tmp").write_text(text, encoding="utf-8")
    for name in (WEIGHTS, CONFIG):
        os.replace(directory / f"{name}.tmp", directory / name)
    return sum((directory / name).stat().st_size for name in (WEIGHTS, CONFIG))


def read_compact(directory: str | Path) -> tuple[CompactConfig, dict[str, Tensor]]:
    """Configuration and weights that `save_compact` has written."""
    directory = Path(directory)
    for name in (CONFIG, WEIGHTS):
        if not (directory / name).is_file():
            raise FileNotFoundError(
                f"{directory / name}: no such file; egs2/speech_llm/compact1 makes the model"
            )
    try:
        raw = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
        config = CompactConfig(**{**raw, "token_ids": tuple(raw["token_ids"])})
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{directory / CONFIG}: not a compact speech LLM's: {error}") from None
    try:
        return config, load_file(directory / WEIGHTS)
    except SafetensorError as error:
        raise ValueError(f"{directory / WEIGHTS}: damaged: {error}") from None


def computing_dtype(name: str, device: str | torch.device) -> torch.dtype:
    """The type of one of `DTYPES`: for `auto` bfloat16 where the device multiplies faster in it."""
    if name != "auto":
        return getattr(torch, name)
    if str(device).startswith("cuda"):
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        can = torch.cpu.get_capabilities()
        fast = any(can.get(name) for name in ("amx_bf16", "sve_bf16", "bf16"))
        # Intel's processors with AVX512-FP16 have tiles for bfloat16, and are slow where a virtual
        # machine hides them: 55 instead of 90 GFLOPS in a linear layer (600 x 576 x 1536, a core)
        fast = fast or (can.get("avx512_bf16", False) and not can.get("avx512_fp16"))
    return torch.bfloat16 if fast else torch.float32


def _find(name: str | Path, validate: Callable[[Path], object]) -> Path:
    """The directory of a frozen part, fetched into the user's cache where `name` is none."""
    if Path(name).expanduser().is_dir():
        return Path(name).expanduser()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "espnet_prune"
    return prepare(str(name), cache / str(name).strip("/").replace("/", "--"), validate)
