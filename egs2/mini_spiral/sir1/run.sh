#!/usr/bin/env bash
# Token pruning on spoken passages with a question each, written for this project: 63 of the 84, so
# that 2 slow cores have done it in half an hour. All of them, beside what is there:
# --local_data_opts "--items 84 --name mini_spiral_84" --test_sets mini_spiral_84. --debug true goes
# through all stages with six of them; see --help for all options.
set -e
set -u
set -o pipefail

# shellcheck source=template/common/options.sh
. template/common/options.sh

debug_suffix "$@"
defaults=(--test_sets mini_spiral --local_data_opts "--items 63")
if [ -n "${suffix}" ]; then
    defaults=(--test_sets mini_spiral_debug --local_data_opts "--items 6 --name mini_spiral_debug")
    defaults+=(--wer_windows 8 --strategies "speechprune rap" --rates "0.2 0.8")
fi

exec template/sir1/sir.sh "${defaults[@]}" "$@"
