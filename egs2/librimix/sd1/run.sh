#!/usr/bin/env bash
# Speaker diarisation on Libri2Mix with a frozen encoder: SUPERB's SD. --upstream names the encoder;
# --debug true goes through all stages with a narrow probe; see --help for all options.
set -e
set -u
set -o pipefail

# shellcheck source=probe_options.sh
. ./probe_options.sh

./superb.sh --superb_task SD --espnet_task diar --train_set train --valid_set dev --test_sets test \
    --config "conf/train_sd${suffix}.yaml" "${defaults[@]}" "${options[@]}"
