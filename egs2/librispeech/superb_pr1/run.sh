#!/usr/bin/env bash
# Phone recognition on LibriSpeech's 100 clean hours (SUPERB: PR). --upstream names the encoder;
# --help shows all options.
set -e
set -u
set -o pipefail

# shellcheck source=template/common/options.sh
. template/common/options.sh

exec template/superb1/superb.sh \
    --superb_task PR \
    --espnet_task asr \
    --token_type word \
    --train_set train_clean_100 \
    --valid_set dev_clean \
    --test_sets test_clean \
    --config conf/train_probe.yaml \
    --debug_args "--max_epoch 1 --num_iters_per_epoch 4 --num_workers 0 --log_interval 1 --batch_size 2 --encoder_conf project_size=8" \
    "$@"
