#!/usr/bin/env bash
# Keyword spotting with 12 classes on Speech Commands v0.01 (SUPERB: KS). --upstream says what
# encoder; --help shows all options.
set -e
set -u
set -o pipefail

# shellcheck source=probe_options.sh
. ./probe_options.sh

./superb.sh \
    --superb_task KS \
    --espnet_task cls \
    --train_set train \
    --valid_set valid \
    --test_sets test \
    --config "conf/train_probe${suffix}.yaml" \
    "${defaults[@]}" "${options[@]}"
