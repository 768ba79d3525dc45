#!/usr/bin/env bash
# Speech recognition on Debian's English voice prompts, with the model of ../ssl_prune1 (SUPERB's
# ASR on small data). --upstream names the encoder; --help shows all options.
set -e
set -u
set -o pipefail

# shellcheck source=template/common/options.sh
. template/common/options.sh

debug_suffix "$@"
exec template/superb1/superb.sh \
    --local_data_opts "--many false --unseen false ${suffix:+--debug true}" \
    --download_dir ../ssl_prune1/downloads \
    --superb_task ASR \
    --espnet_task asr \
    --token_type char \
    --train_set "train_en${suffix}" \
    --valid_set "dev_en${suffix}" \
    --test_sets "test_en${suffix}" \
    --config conf/train_asr_ctc.yaml \
    --debug_args "--max_epoch 1 --batch_size 8 --keep_nbest_models 1 --encoder_conf output_size=16 --encoder_conf attention_heads=2 --encoder_conf linear_units=16 --encoder_conf num_blocks=1" \
    --inference_model valid.loss.ave.pth \
    "$@"
