#!/usr/bin/env bash
# Speaker verification on VoxCeleb1 with a frozen encoder: SUPERB's ASV. --upstream names the
# encoder; --debug true goes through all stages with a narrow probe; see --help for all options.
set -e
set -u
set -o pipefail

# shellcheck source=debug_option.sh
. ./debug_option.sh

defaults=(--config conf/train_asv.yaml)
if "${debug}"; then
    defaults=(--config conf/train_asv_debug.yaml --dumpdir dump_debug --expdir exp_debug)
    defaults+=(--nj 1 --inference_nj 1)
fi

./superb.sh --superb_task ASV --espnet_task spk --train_set train --valid_set dev --test_sets test \
    "${defaults[@]}" "${options[@]}"
