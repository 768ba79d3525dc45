#!/usr/bin/env bash
# Speaker verification on VoxCeleb1 (SUPERB: ASV). --upstream names the encoder; --help shows all
# options.
set -e
set -u
set -o pipefail

# shellcheck source=template/common/options.sh
. template/common/options.sh

exec template/superb1/superb.sh \
    --superb_task ASV \
    --espnet_task spk \
    --train_set train \
    --valid_set dev \
    --test_sets test \
    --config conf/train_asv.yaml \
    --debug_args "--max_epoch 2 --num_iters_per_epoch 4 --num_workers 0 --batch_size 4 --accum_grad 2 --keep_nbest_models 2 --optim_conf lr=1.0e-3 --encoder_conf hidden_size=8 --encoder_conf output_size=12 --projector_conf output_size=8 --preprocessor_conf target_duration=1.0" \
    "$@"
