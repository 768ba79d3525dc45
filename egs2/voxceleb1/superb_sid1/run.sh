#!/usr/bin/env bash
# Speaker identification on VoxCeleb1 (SUPERB: SID). --upstream names the encoder; --help shows all
# options.
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
    --debug_args "--max_epoch 1 --num_iters_per_epoch 2 --num_workers 0 --log_interval 1 --batch_size 4 --accum_grad 2 --optim_conf lr=1.0e-3 --encoder_conf project_size=8 --frontend_conf crop_seconds=0.4" \
    "$@"
