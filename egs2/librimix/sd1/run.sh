#!/usr/bin/env bash
# Speaker diarisation on Libri2Mix with a frozen encoder: SUPERB's SD. --upstream names the encoder;
# --debug true goes through all stages with a narrow probe; see --help for all options.
set -e
set -u
set -o pipefail

# shellcheck source=debug_option.sh
. ./debug_option.sh

defaults=(--config conf/train_sd.yaml)
if "${debug}"; then
    defaults=(--config conf/train_sd_debug.yaml --dumpdir dump_debug --expdir exp_debug)
    defaults+=(--nj 1 --inference_nj 1)
fi

./superb.sh --superb_task SD --espnet_task diar --train_set train --valid_set dev --test_sets test \
    "${defaults[@]}" "${options[@]}"
