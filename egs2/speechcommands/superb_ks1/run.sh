#!/usr/bin/env bash
# Keyword spotting with 12 classes on Speech Commands v0.01 (SUPERB: KS). --upstream names the
# encoder; --help shows all options.
set -e
set -u
set -o pipefail

# shellcheck source=template/common/options.sh
. template/common/options.sh

exec template/superb1/superb.sh \
    --superb_task KS \
    --espnet_task cls \
    --train_set train \
    --valid_set valid \
    --test_sets test \
    --config conf/train_probe.yaml \
    "$@"
