#!/usr/bin/env bash
# Which of five languages is spoken, on Debian's voice prompts. --upstream names the encoder; --help
# shows all options.
set -e
set -u
set -o pipefail

# shellcheck source=template/common/options.sh
. template/common/options.sh

exec template/superb1/superb.sh \
    --superb_task LID \
    --espnet_task cls \
    --download_dir ../ssl_prune1/downloads \
    --train_set train \
    --valid_set dev \
    --test_sets test \
    --config conf/train_probe.yaml \
    "$@"
