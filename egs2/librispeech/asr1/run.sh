#!/usr/bin/env bash
# Speech recognition on LibriSpeech's 100 clean hours (SUPERB: ASR). --upstream says what encoder;
# --help shows all options.
set -e
set -u
set -o pipefail

# shellcheck source=probe_options.sh
. ./probe_options.sh

./superb.sh \
    --superb_task ASR \
    --espnet_task asr \
    --token_type char \
    --train_set train_clean_100 \
    --valid_set dev_clean \
    --test_sets test_clean \
    --config "conf/train_probe${suffix}.yaml" \
    "${defaults[@]}" "${options[@]}"
