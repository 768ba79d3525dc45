#!/usr/bin/env bash
# Intent classification on Fluent Speech Commands (SUPERB: IC). --upstream names the encoder; --help
# shows all options.
set -e
set -u
set -o pipefail

# shellcheck source=template/common/options.sh
. template/common/options.sh

exec template/superb1/superb.sh \
    --superb_task IC \
    --espnet_task cls \
    --label_slots true \
    --train_set train \
    --valid_set valid \
    --test_sets test \
    --config conf/train_probe.yaml \
    "$@"
