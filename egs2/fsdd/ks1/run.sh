#!/usr/bin/env bash
# Which digit is spoken, on the Free Spoken Digit Dataset: each speaker is left out of the training
# once, and accuracies are averaged. --upstream says what encoder; --help shows all options.
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
    --superb_task KS \
    --espnet_task cls \
    --folds all \
    --train_set train \
    --valid_set valid \
    --test_sets test \
    --config "${config}" \
    "${defaults[@]}" "${options[@]}"
