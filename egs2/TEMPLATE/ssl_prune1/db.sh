# Where corpora are on this machine: fill in what you have, or set the variable in the environment.
# shellcheck shell=bash
# shellcheck disable=SC2034

# The directory that holds LibriSpeech/train-clean-100, LibriSpeech/dev-clean and so on.
LIBRISPEECH="${LIBRISPEECH:-}"
