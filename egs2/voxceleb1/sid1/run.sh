#!/usr/bin/env bash
# Speaker identification on VoxCeleb1 (SUPERB: SID). --upstream says what encoder; --help shows all
# options.
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
    --superb_task SID \
    --espnet_task cls \
    --train_set train \
    --valid_set valid \
    --test_sets test \
    --config "${config}" \
    "${defaults[@]}" "${options[@]}"
