#!/usr/bin/env bash
# Phone recognition on LibriSpeech's 100 clean hours (SUPERB: PR). --upstream says what encoder;
# --help shows all options.
set -e
set -u
set -o pipefail

# shellcheck source=debug_option.sh
. ./debug_option.sh

config=conf/train_probe.yaml
defaults=()
if "${debug}"; then
    config=conf/train_probe_debug.yaml
    defaults+=(--nj 1 --inference_nj 1 --dumpdir dump_debug --expdir exp_debug)
fi

./superb.sh \
    --superb_task PR \
    --espnet_task asr \
    --token_type word \
    --train_set train_clean_100 \
    --valid_set dev_clean \
    --test_sets test_clean \
    --config "${config}" \
    "${defaults[@]}" "${options[@]}"
