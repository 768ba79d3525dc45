#!/usr/bin/env bash
# Prune Whisper tiny.en's encoder on real human voice prompts, and see what it is worth for ASR.
# --debug true runs every stage on a few prompts in a few minutes; see --help for all options.
set -e
set -u
set -o pipefail

# shellcheck source=debug_option.sh
. ./debug_option.sh

suffix=
defaults=()
if "${debug}"; then
    suffix=_debug
    defaults+=(--local_data_opts "--debug true" --dumpdir dump_debug --expdir exp_debug)
    defaults+=(--inference_nj 1)
fi

./ssl_prune.sh \
    --train_set "train_ssl${suffix}" \
    --valid_set "valid_ssl${suffix}" \
    --pack_window 30 \
    --pack_min_fill 5 \
    --teacher openai/whisper-tiny.en \
    --teacher_cache true \
    --prune_config "conf/prune${suffix}.yaml" \
    --distill_config "conf/distill${suffix}.yaml" \
    --asr_train_set "train_en${suffix}" \
    --asr_valid_set "dev_en${suffix}" \
    --test_sets "test_en${suffix}" \
    --asr_config "conf/train_asr_ctc${suffix}.yaml" \
    --inference_config conf/decode_ctc.yaml \
    "${defaults[@]}" "${options[@]}"
