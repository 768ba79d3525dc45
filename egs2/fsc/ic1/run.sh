#!/usr/bin/env bash
# Intent classification on Fluent Speech Commands (SUPERB: IC). --upstream says what encoder; --help
# shows all options.
set -e
set -u
set -o pipefail

# shellcheck source=probe_options.sh
. ./probe_options.sh

./superb.sh \
    --superb_task IC \
    --espnet_task cls \
    --label_slots true \
    --train_set train \
    --valid_set valid \
    --test_sets test \
    --config "conf/train_probe${suffix}.yaml" \
    "${defaults[@]}" "${options[@]}"
