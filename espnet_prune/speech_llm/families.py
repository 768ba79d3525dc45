"""Speech LLMs of `transformers` that scatter audio features over placeholder tokens.

All of them put what the audio encoder gives in the place of an audio token that the prompt repeats,
and differ in what this table says.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

CHATML = r"<\|im_start\|>user\n(.*?)(?:<\|im_end\|>|$)"
#: special tokens of these families' prompts, and the number before an audio
MARKS = (
    r"(Audio \d+: ?)?<\|audio_bos\|>\s*<\|audio_eos\|>"
    r"|<\|[^|>]*\|?>|<\w+\|>|\[/?(?:BEGIN_AUDIO|AUDIO|INST)\]"
)

#: what processors call audio features, and what goes with them
INPUTS = (
    "input_features",
    "feature_attention_mask",
    "input_features_mask",
    "audio_feature_lengths",
)


@dataclass(frozen=True)
class Family:
    """What pruning has to know about a kind of model.

    Attributes:
        model: name of its class in `transformers`.
        window: audio tokens of 30 s.
        turn: regular expression of a user's turn, whose group is what the user says.
        prompt: how a pruned prompt goes into `generate`: as `embeddings`, or as `ids` whose audio
            embeddings are put in before the decoder. The latter is for decoders that read the ids
            in every layer, so that embeddings are not enough.
        stride: frames of features for each element of their mask.
        inputs: names of the audio features and of what goes with them.
        merger: module of the decoder whose output is the prompt with its audio, where that is
            not merged before the decoder.
        lora: directory beside the weights, with the LoRA that makes the model understand audio.
    """

    model: str
    window: int
    turn: str
    prompt: str = "embeddings"
    stride: int = 1
    inputs: tuple[str, ...] = INPUTS
    merger: str | None = None
    lora: str | None = None

    @property
    def frame_tokens(self) -> int:
        """Audio tokens of about a second."""
        return max(1, round(self.window / 30))

    def question(self, prompt: str) -> str:
        """What the user says last in a prompt without audio tokens, or all of a prompt without
        turns; special tokens and "Audio 1:" are left out."""
        turns = re.findall(self.turn, prompt, re.DOTALL)
        return re.sub(MARKS, " ", turns[-1] if turns else prompt).strip()


#: by `model_type` of the configuration
FAMILIES = {
    "qwen2_audio": Family("Qwen2AudioForConditionalGeneration", 750, CHATML),
    "qwen2_5_omni_thinker": Family("Qwen2_5OmniThinkerForConditionalGeneration", 750, CHATML),
    "qwen3_omni_moe_thinker": Family("Qwen3OmniMoeThinkerForConditionalGeneration", 390, CHATML),
    "qwen3_asr": Family("Qwen3ASRForConditionalGeneration", 390, CHATML),
    "audioflamingo3": Family("AudioFlamingo3ForConditionalGeneration", 750, CHATML),
    "musicflamingo": Family("MusicFlamingoForConditionalGeneration", 750, CHATML),
    "voxtral": Family("VoxtralForConditionalGeneration", 375, r"\[INST\](.*?)(?:\[/INST\]|$)"),
    "glmasr": Family(
        "GlmAsrForConditionalGeneration", 375, r"<\|user\|>(.*?)(?=<\|user\|>|<\|assistant\|>|$)"
    ),
    "granite_speech": Family(
        "GraniteSpeechForConditionalGeneration",
        300,
        r"(?:<\|start_of_role\|>user<\|end_of_role\|>|USER:)(.*?)(?:<\|end_of_text\|>|ASSISTANT:|$)",
        stride=5,
    ),
    "gemma4": Family(
        "Gemma4ForConditionalGeneration", 750, r"<\|turn>user\n(.*?)(?:<turn\|>|$)", prompt="ids"
    ),
    "phi4_multimodal": Family(
        "Phi4MultimodalForCausalLM",
        375,
        r"<\|user\|>(.*?)(?:<\|end\|>|$)",
        inputs=("audio_input_features", "audio_attention_mask", "audio_embed_sizes"),
        merger="embed_tokens_extend",
        lora="speech-lora",
    ),
}


def family_of(model: Any) -> Family:
    """The row of a loaded model (ValueError: it is of no kind in the table)."""
    kind = getattr(getattr(model, "config", None), "model_type", None)
    if kind not in FAMILIES or not hasattr(model, "generate"):
        known = ", ".join(FAMILIES)
        raise ValueError(
            f"audio tokens of {type(model).__name__} (model_type {kind}) cannot be pruned, only "
            f"those of generating models of {known}; of Qwen's Omni models give model.thinker"
        )
    return FAMILIES[kind]
