#!/usr/bin/env bash
# Token pruning on the speech of AudioMarathon (arXiv 2510.07293), minutes long: passages with
# questions (scr) and entities (ser). --debug true goes through all stages with six questions of each;
# see --help for all options.
set -e
set -u
set -o pipefail

# shellcheck source=template/common/options.sh
. template/common/options.sh

debug_suffix "$@"
defaults=(--test_sets "audiomarathon_scr audiomarathon_ser" --wer_model "")
# 0: what phase 1 alone leaves of the whole recording, 750 tokens
defaults+=(--strategies "speechprune rap rac" --rates "0 0.2 0.4 0.6 0.8")
if [ -n "${suffix}" ]; then
    defaults=(--test_sets "audiomarathon_debug_scr audiomarathon_debug_ser")
    defaults+=(--local_data_opts "--items 6 --suffix _debug")
    defaults+=(--wer_model "" --strategies "speechprune rap" --rates "0.2 0.8")
fi

exec template/sir1/sir.sh --speech_llm qwen2_audio "${defaults[@]}" "$@"
