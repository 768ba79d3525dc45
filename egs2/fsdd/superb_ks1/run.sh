#!/usr/bin/env bash
# Which digit is spoken, on the Free Spoken Digit Dataset (SUPERB's KS on small data): each speaker
# is left out of the training once, and accuracies are averaged. --upstream names the encoder;
# --help shows all options.
set -e
set -u
set -o pipefail

# shellcheck source=template/common/options.sh
. template/common/options.sh

exec template/superb1/superb.sh \
    --superb_task KS \
    --espnet_task cls \
    --folds all \
    --train_set train \
    --valid_set valid \
    --test_sets test \
    --config conf/train_probe.yaml \
    "$@"
