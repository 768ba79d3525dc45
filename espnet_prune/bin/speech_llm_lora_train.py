"""Training entry of the ESPnet task `SpeechLlmLoraTask`: the language model learns to read audio
tokens.

egs2/speech_llm/compact1/run.sh calls it with all its options.
"""

from espnet_prune.cli import errors
from espnet_prune.plugin.tasks.speech_llm import SpeechLlmLoraTask

get_parser = SpeechLlmLoraTask.get_parser


def main(cmd=None):
    """Train; as in every `espnet2.bin`."""
    errors.train(SpeechLlmLoraTask, cmd)


if __name__ == "__main__":
    main()
