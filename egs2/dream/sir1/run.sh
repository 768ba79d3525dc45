#!/usr/bin/env bash
# Token pruning on DREAM-TTS, spoken dialogues with questions of English examinations, and on its
# recordings of more than 60 s, as in SpeechPrune (arXiv 2412.12009). --debug true goes through all
# stages with six questions; see --help for all options.
set -e
set -u
set -o pipefail

# shellcheck source=template/common/options.sh
. template/common/options.sh

debug_suffix "$@"
defaults=(--test_sets "dream dream_60s?" --wer_model "")
# 0: what phase 1 alone leaves of the whole recording, 750 tokens
defaults+=(--strategies "speechprune rap rac" --rates "0 0.2 0.4 0.6 0.8")
if [ -n "${suffix}" ]; then
    defaults=(--test_sets "dream_debug dream_debug_60s?" --local_data_opts "--items 6 --suffix _debug")
    defaults+=(--wer_model "" --strategies "speechprune rap" --rates "0.2 0.8")
fi

exec template/sir1/sir.sh --speech_llm qwen2_audio "${defaults[@]}" "$@"
