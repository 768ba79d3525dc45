#!/usr/bin/env bash
# Which of five languages is spoken, on Debian's voice prompts. --upstream says what encoder; --help
# shows all options.
set -e
set -u
set -o pipefail

# shellcheck source=probe_options.sh
. ./probe_options.sh

./superb.sh \
    --superb_task LID \
    --espnet_task cls \
    --train_set train \
    --valid_set dev \
    --test_sets test \
    --config "conf/train_probe${suffix}.yaml" \
    "${defaults[@]}" "${options[@]}"
