"""Training entry of the ESPnet task `SpeechLlmCtcTask`: the adapter learns to hear.

egs2/speech_llm/compact1/run.sh calls it with all its options.
"""

from espnet_prune.cli import errors
from espnet_prune.plugin.tasks.speech_llm import SpeechLlmCtcTask

get_parser = SpeechLlmCtcTask.get_parser


def main(cmd=None):
    """Train; as in every `espnet2.bin`."""
    errors.train(SpeechLlmCtcTask, cmd)


if __name__ == "__main__":
    main()
