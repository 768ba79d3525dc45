#!/usr/bin/env bash
# Who speaks, on the Free Spoken Digit Dataset. --upstream says what encoder; --help shows all
# options.
set -e
set -u
set -o pipefail

# shellcheck source=probe_options.sh
. ./probe_options.sh

./superb.sh \
    --superb_task SID \
    --espnet_task cls \
    --train_set train \
    --valid_set valid \
    --test_sets test \
    --config "conf/train_probe${suffix}.yaml" \
    "${defaults[@]}" "${options[@]}"
