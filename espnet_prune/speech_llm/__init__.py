"""Speech language models that answer questions about long recordings, with pruned audio tokens."""

from espnet_prune.speech_llm.audio_llm import AudioLLM
from espnet_prune.speech_llm.base import Heard, Read, SpeechLLM, audio_chunks
from espnet_prune.speech_llm.compact.model import Compact
from espnet_prune.speech_llm.diva import Diva
from espnet_prune.speech_llm.prompts import POSITIONS
from espnet_prune.speech_llm.qwen2_audio import Qwen2Audio
from espnet_prune.speech_llm.wrap import prune_tokens

#: The adapters by the name that selects them in a YAML file.
SPEECH_LLMS: dict[str, type[SpeechLLM]] = {
    "qwen2_audio": Qwen2Audio,
    "diva": Diva,
    "compact": Compact,
    "audio_llm": AudioLLM,
}

__all__ = [
    "POSITIONS",
    "SPEECH_LLMS",
    "AudioLLM",
    "Compact",
    "Diva",
    "Heard",
    "Qwen2Audio",
    "Read",
    "SpeechLLM",
    "audio_chunks",
    "prune_tokens",
]
