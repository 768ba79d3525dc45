"""Training entry of the ESPnet task `SpeechLlmLoraTask`: the language model learns to read
audio tokens."""

from espnet_prune.cli import errors as cli
from espnet_prune.plugin.tasks.speech_llm import SpeechLlmLoraTask


def get_parser():
    """The parser of the task, as in every `espnet2.bin`."""
    return SpeechLlmLoraTask.get_parser()


def main(cmd=None):
    """See egs2/speech_llm/compact1/run.sh.

    Example:
        % python -m espnet_prune.bin.speech_llm_lora_train --config conf/lora.yaml \\
              --encoder exp/encoder --language_model exp/language_model \\
              --pieces exp/pieces.json --output_dir exp/lora …
    """
    cli.train(SpeechLlmLoraTask, cmd)


if __name__ == "__main__":
    main()
