"""Training entry of the ESPnet task `SpeechLlmCtcTask`: the adapter learns to hear."""

from espnet_prune.cli import errors as cli
from espnet_prune.plugin.tasks.speech_llm import SpeechLlmCtcTask


def get_parser():
    """The parser of the task, as in every `espnet2.bin`."""
    return SpeechLlmCtcTask.get_parser()


def main(cmd=None):
    """See egs2/speech_llm/compact1/run.sh.

    Example:
        % python -m espnet_prune.bin.speech_llm_ctc_train --config conf/ctc.yaml \\
              --encoder exp/encoder --language_model exp/language_model \\
              --pieces exp/pieces.json --output_dir exp/ctc …
    """
    cli.train(SpeechLlmCtcTask, cmd)


if __name__ == "__main__":
    main()
