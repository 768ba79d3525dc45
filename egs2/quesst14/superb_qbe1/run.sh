#!/usr/bin/env bash
# Query-by-example search in QUESST 2014 (SUPERB: QbE), which trains nothing. --inference_args "--
# ngpu 1" takes a GPU. --upstream names the encoder; --help shows all options.
set -e
set -u
set -o pipefail

# shellcheck source=template/common/options.sh
. template/common/options.sh

exec template/superb1/superb.sh \
    --superb_task QbE \
    --espnet_task qbe \
    --train_set documents \
    --valid_set dev \
    --test_sets eval \
    "$@"
