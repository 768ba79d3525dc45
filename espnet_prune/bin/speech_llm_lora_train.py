"""Training entry of the ESPnet task `SpeechLlmLoraTask`: the language model reads audio."""

from functools import partial

from espnet_prune.cli import errors
from espnet_prune.plugin.tasks.speech_llm import SpeechLlmLoraTask

get_parser = SpeechLlmLoraTask.get_parser
main = partial(errors.train, SpeechLlmLoraTask)

if __name__ == "__main__":
    main()
