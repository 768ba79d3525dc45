#!/usr/bin/env bash
# Speaker diarisation on Libri2Mix (SUPERB: SD). --upstream names the encoder; --help shows all
# options.
set -e
set -u
set -o pipefail

# shellcheck source=template/common/options.sh
. template/common/options.sh

exec template/superb1/superb.sh \
    --superb_task SD \
    --espnet_task diar \
    --train_set train \
    --valid_set dev \
    --test_sets test \
    --config conf/train_sd.yaml \
    --debug_args "--max_epoch 1 --num_iters_per_epoch 4 --num_workers 0 --batch_size 2 --accum_grad 2 --optim_conf lr=1.0e-2 --encoder_conf hidden_size=8" \
    "$@"
