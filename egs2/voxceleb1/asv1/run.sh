#!/usr/bin/env bash
# Speaker verification on VoxCeleb1 with a frozen encoder: SUPERB's ASV. --upstream names the
# encoder; --debug true goes through all stages with a narrow probe; see --help for all options.
set -e
set -u
set -o pipefail

# shellcheck source=probe_options.sh
. ./probe_options.sh

./superb.sh --superb_task ASV --espnet_task spk --train_set train --valid_set dev --test_sets test \
    --config "conf/train_asv${suffix}.yaml" "${defaults[@]}" "${options[@]}"
