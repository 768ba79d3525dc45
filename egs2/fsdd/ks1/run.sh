#!/usr/bin/env bash
# Which digit is spoken, on the Free Spoken Digit Dataset: each speaker is left out of the training
# once, and accuracies are averaged. --upstream says what encoder; --help shows all options.
set -e
set -u
set -o pipefail

# shellcheck source=probe_options.sh
. ./probe_options.sh

./superb.sh \
    --superb_task KS \
    --espnet_task cls \
    --folds all \
    --train_set train \
    --valid_set valid \
    --test_sets test \
    --config "conf/train_probe${suffix}.yaml" \
    "${defaults[@]}" "${options[@]}"
