#!/usr/bin/env bash
# Intent classification on Fluent Speech Commands (SUPERB: IC). --upstream says what encoder; --help
# shows all options.
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
    --superb_task IC \
    --espnet_task cls \
    --label_slots true \
    --train_set train \
    --valid_set valid \
    --test_sets test \
    --config "${config}" \
    "${defaults[@]}" "${options[@]}"
