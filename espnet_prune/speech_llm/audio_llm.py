"""`AudioLLM`: any model of `families.FAMILIES` through one adapter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor
from transformers.utils import find_adapter_config_file

from espnet_prune.data.audio import SAMPLING_RATE
from espnet_prune.extras import load_extra
from espnet_prune.speech_llm.base import CHUNK_SAMPLES, Heard, SpeechLLM
from espnet_prune.speech_llm.encoders import put_encoder
from espnet_prune.speech_llm.families import FAMILIES, family_of
from espnet_prune.structured.encoder import read_model_config


class _Merged(Exception):
    """Ends a forward pass where text and audio are merged."""


class AudioLLM(SpeechLLM):
    """A speech LLM of `transformers` that scatters audio features over placeholders.

    Audio tokens are what the decoder gets in the place of the placeholders when the model's own
    forward pass runs, so that nothing of the model is written again here. The chat template of its
    processor says what stands around them.

    Args:
        model: of a kind in `FAMILIES`.
        processor: the model's own.
    """

    #: tokens a second differ by model, so that answers are not searched for evidence in time
    in_time = False

    def __init__(self, model: Any, processor: Any):
        self.family = family_of(model)
        extractor = getattr(processor, "feature_extractor", None)
        extractor = extractor or getattr(processor, "audio_processor", None)
        longest = getattr(extractor, "n_samples", None) or CHUNK_SAMPLES
        super().__init__(model, processor.tokenizer, min(longest, CHUNK_SAMPLES))
        self.processor = processor
        self.window, self.frame_tokens = self.family.window, self.family.frame_tokens
        #: fewer samples make no frame of features
        self.least_samples = getattr(extractor, "win_length", 1)
        config = model.config
        owner = config if hasattr(config, "audio_token_id") else config.audio_config
        self.audio_id = owner.audio_token_id

    @classmethod
    def from_pretrained(
        cls, model: str, device: str = "cpu", dtype: str = "auto", encoder: str | None = None
    ) -> AudioLLM:
        """Load a directory or a hub name in `float32`, `bfloat16`, … or (`auto`) as stored. A LoRA
        beside the weights, without which the model does not understand audio, is merged into them.

        Args:
            encoder: directory of the model's own encoder, pruned, which takes its place.
        FileNotFoundError, ValueError: no such model, or of a kind that is not in `FAMILIES`; or
        errors of `put_encoder`. MissingExtraError: there is a LoRA, but not `peft`.
        """
        kind = str(read_model_config(str(model)).get("model_type"))
        kind = f"{kind}_thinker" if f"{kind}_thinker" in FAMILIES else kind  # Qwen's Omni models
        if kind not in FAMILIES:
            known = ", ".join(FAMILIES)
            raise ValueError(f"{model}: model_type is '{kind}', choose from {known}")
        name, lora = FAMILIES[kind].model, FAMILIES[kind].lora
        if not hasattr(transformers, name):
            raise ValueError(f"{model}: transformers {transformers.__version__} has no {name}")
        loaded = getattr(transformers, name).from_pretrained(model, dtype=dtype)
        if lora is not None and find_adapter_config_file(str(model), subfolder=lora):
            peft = load_extra("peft", "speech-llm")
            adapted = peft.PeftModel.from_pretrained(loaded, str(model), subfolder=lora)
            loaded = adapted.merge_and_unload()
        if encoder is not None:
            put_encoder(loaded, encoder)
        processor = transformers.AutoProcessor.from_pretrained(model, trust_remote_code=False)
        return cls(loaded.to(device).eval(), processor)

    def is_audio(self, ids: Tensor) -> Tensor:
        """Where the placeholders are, a bool for each of the `ids`."""
        return ids == self.audio_id

    @torch.no_grad()
    def merge(self, ids: Tensor, mask: Tensor, audio: Mapping[str, Any]) -> Tensor:
        """(B, P, D) embeddings of prompts, ids and mask (B, P), with their `audio` (of the family's
        `inputs`), as the decoder gets them, or makes them itself.

        ValueError: the model does not take this audio with these prompts.
        """
        found: list[Tensor] = []
        decoder, merger = self.lm.get_decoder(), self.family.merger
        places = int(self.is_audio(ids).sum())

        def stop(embeds: Tensor) -> None:
            found.append(embeds)
            raise _Merged

        if merger is None:
            hook = decoder.register_forward_pre_hook(
                lambda module, args, kwargs: stop(kwargs["inputs_embeds"]), with_kwargs=True
            )
        else:
            hook = getattr(decoder, merger).register_forward_hook(
                lambda module, args, merged: stop(merged)
            )
        try:
            # Phi-4 drops audio that has no placeholder, and repeats a single token over several
            if "audio_embed_sizes" in self.family.inputs:
                sizes = audio.get("audio_embed_sizes")
                if sizes is None or int(sum(sizes)) != places:
                    raise ValueError(f"audio_embed_sizes are {sizes}")
            self.lm(input_ids=ids, attention_mask=mask, use_cache=False, **audio)
        except _Merged:
            pass
        except (ValueError, RuntimeError, IndexError) as error:
            clips = len(audio[self.family.inputs[0]])
            raise ValueError(
                f"{places} audio placeholders and {clips} clips of audio do not fit: make text and "
                f"features in one call of the processor ({error})"
            ) from error
        finally:
            hook.remove()
        return found[0]

    def encode(self, chunks: list[np.ndarray]) -> list[Heard]:
        heard = []
        for chunk in chunks:
            if len(chunk) < self.least_samples:
                heard.append(Heard(self.empty_audio()))
                continue
            inputs = self._processed("?", chunk)
            ids, mask = inputs["input_ids"], inputs["attention_mask"]
            audio = {name: inputs[name] for name in self.family.inputs if name in inputs}
            heard.append(Heard(self.merge(ids, mask, audio)[self.is_audio(ids)]))
        return heard

    def layout(self, question: str) -> tuple[list[int], list[int]]:
        if self.family.prompt != "embeddings":
            raise ValueError(
                f"{type(self.lm).__name__} generates from ids alone: prune with prune_tokens"
            )
        ids = self._processed(question, np.zeros(SAMPLING_RATE, np.float32))["input_ids"][0]
        places = self.is_audio(ids).nonzero().squeeze(1).tolist()
        if not places:
            raise ValueError("the chat template of the processor has no place for audio")
        return ids[: places[0]].tolist(), ids[places[-1] + 1 :].tolist()

    def _processed(self, question: str, chunk: np.ndarray) -> dict[str, Tensor]:
        content = [{"type": "audio", "audio": "audio"}, {"type": "text", "text": question}]
        text = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        options = {"sampling_rate": SAMPLING_RATE, "return_tensors": "pt"}
        with torch.autocast("cpu", enabled=False):  # as in `log_mel`
            inputs = self.processor(text=[text], audio=[chunk], **options)
        device, dtype = self._embedding.weight.device, self.lm.dtype
        moved = {n: v.to(device) for n, v in inputs.items() if isinstance(v, Tensor)}
        return {n: v.to(dtype) if v.is_floating_point() else v for n, v in moved.items()}
