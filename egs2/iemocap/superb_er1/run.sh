#!/usr/bin/env bash
# Emotion recognition with four classes on IEMOCAP (SUPERB: ER): each session is the test set once,
# and accuracies are averaged; --folds 2 runs one. --upstream names the encoder; --help shows all
# options.
set -e
set -u
set -o pipefail

# shellcheck source=template/common/options.sh
. template/common/options.sh

exec template/superb1/superb.sh \
    --superb_task ER \
    --espnet_task cls \
    --folds all \
    --train_set train \
    --valid_set valid \
    --test_sets test \
    --config conf/train_probe.yaml \
    --debug_args "--max_epoch 1 --num_iters_per_epoch 2 --num_workers 0 --log_interval 1 --batch_size 4 --accum_grad 2 --optim_conf lr=1.0e-3 --encoder_conf project_size=8" \
    "$@"
