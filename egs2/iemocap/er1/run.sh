#!/usr/bin/env bash
# Emotion recognition with four classes on IEMOCAP (SUPERB: ER): each session is the test set once,
# and accuracies are averaged; --folds 2 runs one. --upstream says what encoder; --help shows all
# options.
set -e
set -u
set -o pipefail

# shellcheck source=probe_options.sh
. ./probe_options.sh

./superb.sh \
    --superb_task ER \
    --espnet_task cls \
    --folds all \
    --train_set train \
    --valid_set valid \
    --test_sets test \
    --config "conf/train_probe${suffix}.yaml" \
    "${defaults[@]}" "${options[@]}"
