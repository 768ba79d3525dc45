"""Training entry of the ESPnet task `SpeechLlmCtcTask`: the adapter learns to hear."""

from functools import partial

from espnet_prune.cli import errors
from espnet_prune.plugin.tasks.speech_llm import SpeechLlmCtcTask

get_parser = SpeechLlmCtcTask.get_parser
main = partial(errors.train, SpeechLlmCtcTask)

if __name__ == "__main__":
    main()
