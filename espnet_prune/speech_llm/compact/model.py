"""A speech LLM that fits two CPU cores: Whisper tiny.en, an adapter, SmolLM2-135M.

    waveform -> Whisper's encoder, dense or pruned, and its decoder -> words with their times
    -> token ids in time (25 Hz) -> embeddings, see `AudioAdapter.embed` -> language model with LoRA

A word can be read where it is said, and the tokens around tell token pruning, by their similarity
to a question, what is said there. Only the adapter's vector and LoRA weights are stored; Whisper
and language model are named, by directory or hub name.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from espnet_prune.data.audio import SAMPLING_RATE
from espnet_prune.extras import load_extra
from espnet_prune.files.model_config import check_model_directory
from espnet_prune.files.reading import read_record
from espnet_prune.files.writing import write_file, write_text
from espnet_prune.hub.pretrained import prepare
from espnet_prune.speech_llm.base import Heard, SpeechLLM
from espnet_prune.speech_llm.compact.adapter import BLANK, AdapterShape, AudioAdapter, place
from espnet_prune.speech_llm.compact.ear import Ear, Word, pieces
from espnet_prune.structured import SpeechEncoder, load_encoder
from espnet_prune.tokens.pruner import FRAME_TOKENS

#: samples of an audio token: two frames of the encoder
TOKEN_SAMPLES = SAMPLING_RATE // FRAME_TOKENS
CONFIG, WEIGHTS = "compact.json", "compact.safetensors"
#: folder of the repository whose run.sh makes the model
RECIPE = "egs2/speech_llm/compact1"
HOW_TO_GET = f"take {RECIPE}/model of the repository, or make it with {RECIPE}/run.sh"
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
DTYPES = ("float32", "bfloat16", "auto")

# The prompt, in training as in use.
BEFORE = "Passage:"
AROUND = (" Question:", " Answer:")
TRANSCRIBE = " Transcript:"
#: between the prompts, and the answers, of one recording in training data
SEPARATOR = "\t"


def ask(question: str) -> str:
    """What stands between the audio and an answer."""
    return f"{AROUND[0]} {question}{AROUND[1]}"


@dataclass(frozen=True)
class CompactConfig:
    """What `compact.json` says."""

    whisper: str  # a directory or hub name
    language_model: str  # causal language model of `transformers`, the same
    shape: AdapterShape = AdapterShape()  # the file has its parts one by one
    lora_rank: int = 16
    lora_alpha: float = 32.0  # LoRA's output is scaled by alpha / rank

    def to_json(self) -> str:
        """A JSON object, one line per key."""
        row: dict[str, Any] = {}
        for name, value in vars(self).items():
            row.update(vars(value) if name == "shape" else {name: value})
        lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in row.items()]
        return "{\n  " + ",\n  ".join(lines) + "\n}\n"

    @classmethod
    def load(cls, path: Path) -> CompactConfig:
        """FileNotFoundError, ValueError: no such file, or one that `to_json` has not written."""
        row = read_record(path, ("whisper",), hint=HOW_TO_GET)
        shape = {part.name: row.pop(part.name) for part in fields(AdapterShape) if part.name in row}
        try:
            return cls(shape=AdapterShape(**shape), **row)
        except TypeError as error:
            raise ValueError(f"{path}: not a compact speech LLM's: {error}") from None


class Compact(SpeechLLM):
    """The compact speech LLM; its prompt is plain text. LoRA is merged into `lm`, else
    `first_layer` would not see it."""

    answer_lead = " "
    recognises = True

    def __init__(self, ear: Ear, adapter: AudioAdapter, lm: Any, tokenizer: Any):
        super().__init__(lm, tokenizer)
        check_frames(ear.encoder)
        self.ear, self.adapter = ear, adapter

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        device: str = "cpu",
        whisper: str | Path | None = None,
        encoder: str | Path | None = None,
        language_model: str | Path | None = None,
        dtype: str = "float32",
    ) -> Compact:
        """Load a directory that `save_compact` has written.

        Args:
            model: the directory, e.g. `recipe_model()`.
            whisper, language_model: instead of those that `compact.json` names. A name that is not
                a directory is fetched once (`espnet_prune.hub.pretrained`) and kept in the user's
                cache folder.
            encoder: directory of a pruned encoder, in place of Whisper's own.
            dtype: of the language model, `float32`, `bfloat16`, or `auto` for bfloat16 where the
                device multiplies faster in it; Whisper and adapter compute in float32.
        FileNotFoundError, ValueError: a file or a frozen part cannot be found; files are damaged or
        do not fit each other.
        """
        computes_in = computing_dtype(dtype, device)
        config, weights = read_compact(model)
        ear = Ear(_find(whisper or config.whisper, load_encoder), encoder).to(device)
        lm_directory = _find(language_model or config.language_model, load_language_model)
        lm, tokenizer = load_language_model(lm_directory)
        adapter = AudioAdapter(lm.get_input_embeddings().weight.shape[1], config.shape)
        lm = with_lora(lm, config.lora_rank, config.lora_alpha)
        wanted = {f"adapter.{name}": value for name, value in adapter.state_dict().items()}
        wanted.update((f"lora.{name}", value) for name, value in lora_parameters(lm).items())
        for name in sorted(weights.keys() | wanted.keys()):
            got, due = (tuple(t[name].shape) if name in t else None for t in (weights, wanted))
            if got != due:
                raise ValueError(
                    f"{Path(model) / WEIGHTS}: {name} is {got}, but the language model and "
                    f"{CONFIG} ask for {due}"
                )
        with torch.no_grad():
            for name, value in wanted.items():
                value.copy_(weights[name])
        lm = lm.merge_and_unload().to(computes_in)
        for part in (adapter, lm):
            part.to(device).eval().requires_grad_(False)
        return cls(ear, adapter, lm, tokenizer)

    def chunks(self, speech: np.ndarray) -> list[np.ndarray]:
        """A recording, (T,) float32, cut at pauses."""
        return pieces(speech, TOKEN_SAMPLES, self.ear.most)

    @torch.no_grad()
    def encode(self, chunks: list[np.ndarray]) -> list[Heard]:
        """Audio tokens, one for 40 ms begun, and the words that they are made of."""
        found = []
        for chunk, words in zip(chunks, self.ear.hear(chunks), strict=True):
            ids = ids_in_time(words, self.tokenizer, len(chunk))
            tokens = self.adapter.embed(ids.to(self.lm.device), self._embedding.weight)
            found.append(Heard(tokens, " ".join(word.text for word in words), ids != BLANK))
        return found

    def layout(self, question: str) -> tuple[list[int], list[int]]:
        before, after = self.tokenizer([BEFORE, ask(question)], add_special_tokens=False).input_ids
        return before, after

    def stops(self) -> dict:
        return {"eos_token_id": self.tokenizer.eos_token_id}


def ids_in_time(words: Sequence[Word], tokenizer: Any, samples: int) -> Tensor:
    """What `place` gives for words of audio of so many samples, an id for each token begun: in
    training as in use."""
    return place(words, tokenizer, -(-samples // TOKEN_SAMPLES))


def check_frames(encoder: SpeechEncoder) -> None:
    """ValueError for an encoder with another number of frames a second than two an audio token."""
    due = TOKEN_SAMPLES // 2
    if encoder.samples_per_frame != due:
        raise ValueError(
            f"the encoder has a frame every {encoder.samples_per_frame} samples, but the compact "
            f"speech LLM needs one every {due} ({2 * FRAME_TOKENS} a second): take another encoder"
        )


def save_compact(
    directory: str | Path, config: CompactConfig, adapter: AudioAdapter, lora: dict[str, Tensor]
) -> int:
    """Write `compact.json` and, in float16, `compact.safetensors`; `lora` is what
    `lora_parameters` gives. Returns bytes of both files."""
    directory = Path(directory)
    tensors = {f"adapter.{name}": value for name, value in adapter.state_dict().items()}
    tensors.update((f"lora.{name}", value) for name, value in lora.items())
    half = {name: value.detach().cpu().half().contiguous() for name, value in tensors.items()}
    write_file(directory / WEIGHTS, lambda to: save_file(half, to))
    write_text(directory / CONFIG, config.to_json())
    return sum((directory / name).stat().st_size for name in (WEIGHTS, CONFIG))


def read_compact(directory: str | Path) -> tuple[CompactConfig, dict[str, Tensor]]:
    """Configuration and weights that `save_compact` has written (FileNotFoundError, ValueError: a
    file is missing or damaged)."""
    config, weights = (Path(directory) / name for name in (CONFIG, WEIGHTS))
    if not weights.is_file():
        raise FileNotFoundError(f"{weights}: no such file; {HOW_TO_GET}")
    found = CompactConfig.load(config)
    try:
        return found, load_file(weights)
    except SafetensorError as error:
        raise ValueError(f"{weights}: damaged: {error}") from None


def recipe_model() -> Path:
    """The trained model of the repository, in its recipe's folder (FileNotFoundError: the package
    does not stand in the repository; a wheel has no such weights)."""
    directory = Path(__file__).resolve().parents[3] / RECIPE / "model"
    if not directory.is_dir():
        raise FileNotFoundError(f"{directory}: no such directory; {HOW_TO_GET}")
    return directory


def with_lora(lm: Any, rank: int, alpha: float) -> Any:
    """A `peft` model around the language model, which is changed in place: frozen, with LoRA
    (arXiv 2106.09685) in all attention projections."""
    peft = load_extra("peft", "speech-llm")
    lora = peft.LoraConfig(
        r=rank, lora_alpha=alpha, target_modules=ATTENTION, task_type="CAUSAL_LM"
    )
    return peft.get_peft_model(lm, lora)


def lora_parameters(model: Any) -> dict[str, nn.Parameter]:
    """The LoRA weights of a `peft` model, by names of the language model's own modules."""
    return {
        name.removeprefix("base_model.model.").replace(".default.", "."): parameter
        for name, parameter in model.named_parameters()
        if ".lora_" in name
    }


def load_tokenizer(language_model: str | Path) -> Any:
    """The tokenizer in a directory of a language model (FileNotFoundError: no such directory)."""
    from transformers import AutoTokenizer

    if not Path(language_model).is_dir():
        raise FileNotFoundError(f"{language_model}: no such directory")
    return AutoTokenizer.from_pretrained(language_model, trust_remote_code=False)


def load_language_model(directory: str | Path) -> tuple[Any, Any]:
    """A causal language model in float32 and evaluation mode, and its tokenizer."""
    from transformers import AutoModelForCausalLM

    check_model_directory(directory)
    own = {"trust_remote_code": False}  # else a terminal is asked whether to run it
    lm = AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="sdpa", **own
    )
    return lm.eval(), load_tokenizer(directory)


def computing_dtype(name: str, device: str | torch.device) -> torch.dtype:
    """One of `DTYPES`, else ValueError, as a type: bfloat16 for `auto` where that is faster."""
    if name not in DTYPES:
        raise ValueError(f"dtype is '{name}', choose from {', '.join(DTYPES)}")
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
    """The directory of a frozen part, fetched into the user's cache if `name` is a hub name."""
    if Path(name).expanduser().is_dir():
        return Path(name).expanduser()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "espnet_prune"
    return prepare(str(name), cache / str(name).strip("/").replace("/", "--"), validate)
