#!/usr/bin/env bash
# Who speaks, on the Free Spoken Digit Dataset (SUPERB's SID on small data). --upstream names the
# encoder; --help shows all options.
set -e
set -u
set -o pipefail

# shellcheck source=template/common/options.sh
. template/common/options.sh

exec template/superb1/superb.sh \
    --superb_task SID \
    --espnet_task cls \
    --train_set train \
    --valid_set valid \
    --test_sets test \
    --config conf/train_probe.yaml \
    "$@"
