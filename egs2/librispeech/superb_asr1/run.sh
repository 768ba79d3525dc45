#!/usr/bin/env bash
# Speech recognition on LibriSpeech's 100 clean hours (SUPERB: ASR). --upstream names the encoder;
# --help shows all options.
set -e
set -u
set -o pipefail

# shellcheck source=template/common/options.sh
. template/common/options.sh

exec template/superb1/superb.sh \
    --superb_task ASR \
    --espnet_task asr \
    --token_type char \
    --train_set train_clean_100 \
    --valid_set dev_clean \
    --test_sets test_clean \
    --config conf/train_probe.yaml \
    --debug_args "--max_epoch 1 --num_iters_per_epoch 2 --num_workers 0 --log_interval 1 --batch_size 2 --optim_conf lr=1.0e-3 --encoder_conf project_size=8 --encoder_conf hidden_size=8 --specaug_conf freq_mask_width_range=[0,4]" \
    "$@"
