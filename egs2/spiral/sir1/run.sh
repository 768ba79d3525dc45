#!/usr/bin/env bash
# Token pruning on SPIRAL and SPIRAL-H (arXiv 2412.12009), from where db.sh says or from the
# authors. --debug true goes through all stages with six items of each; see --help for all options.
set -e
set -u
set -o pipefail

# shellcheck source=template/common/options.sh
. template/common/options.sh

debug_suffix "$@"
defaults=(--test_sets "spiral spiral_h?")
# 0: what phase 1 alone leaves of the whole recording, 750 tokens
defaults+=(--strategies "speechprune first_phase second_phase rap rac" --rates "0 0.2 0.4 0.6 0.8")
if [ -n "${suffix}" ]; then
    defaults=(--test_sets "spiral_debug spiral_h_debug?" --local_data_opts "--items 6 --suffix _debug")
    defaults+=(--wer_windows 8 --strategies "speechprune rap" --rates "0.2 0.8")
fi

exec template/sir1/sir.sh --speech_llm qwen2_audio "${defaults[@]}" "$@"
