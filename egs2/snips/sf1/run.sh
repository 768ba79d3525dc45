#!/usr/bin/env bash
# Slot filling on Audio SNIPS (SUPERB: SF). --upstream says what encoder; --help shows all options.
set -e
set -u
set -o pipefail

# shellcheck source=probe_options.sh
. ./probe_options.sh

./superb.sh \
    --superb_task SF \
    --espnet_task asr \
    --token_type word \
    --train_set train \
    --valid_set valid \
    --test_sets test \
    --config "conf/train_probe${suffix}.yaml" \
    "${defaults[@]}" "${options[@]}"
