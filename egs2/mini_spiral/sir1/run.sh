#!/usr/bin/env bash
# Token pruning on spoken passages with a question each, written for this project. 2 slow cores do it
# in half an hour; all strategies take longer: --strategies "speechprune first_phase second_phase rap
# rac crop uniform" --rates "0.2 0.4 0.6 0.8". --debug true goes through all stages with six of them;
# see --help for all options.
set -e
set -u
set -o pipefail

# shellcheck source=template/common/options.sh
. template/common/options.sh

debug_suffix "$@"
defaults=(--test_sets mini_spiral --strategies "speechprune second_phase rap" --rates "0.2 0.6")
if [ -n "${suffix}" ]; then
    defaults=(--test_sets mini_spiral_debug --local_data_opts "--items 6 --name mini_spiral_debug")
    defaults+=(--wer_windows 8 --strategies "speechprune rap" --rates "0.2 0.8")
fi

exec template/sir1/sir.sh "${defaults[@]}" "$@"
