#!/usr/bin/env bash
# Prune Whisper tiny.en's encoder in one shot, distil it through Whisper's decoder, and see what it is
# worth: on the speaker of the training prompts, and on two that are in no training data.
# --debug true runs every stage on a few prompts in a few minutes; see --help for all options.
set -e
set -u
set -o pipefail

# shellcheck source=template/common/options.sh
. template/common/options.sh

debug_suffix "$@"
exec template/ssl_prune1/ssl_prune.sh \
    --local_data_opts "${suffix:+--debug true}" \
    --train_set "train_many${suffix}" \
    --valid_set "valid_many${suffix}" \
    --pack_window 8 \
    --pack_min_fill 2 \
    --teacher openai/whisper-tiny.en \
    --method one_shot \
    --decoder_loss true \
    --prune_config conf/prune.yaml \
    --distill_config conf/distill.yaml \
    --debug_prune_args "--max_epoch 2 --num_iters_per_epoch 3 --pruning_conf ramp_updates=4 --log_interval 1" \
    --debug_distill_args "--num_iters_per_epoch 3 --scheduler_conf max_steps=6 --optim_conf lr=1.0e-3 --log_interval 1" \
    --asr_train_set "train_en${suffix}" \
    --asr_valid_set "dev_en${suffix}" \
    --test_sets "test_en${suffix} test_hibari${suffix} test_joe${suffix}" \
    --asr_config conf/train_asr_ctc.yaml \
    --debug_asr_args "--max_epoch 1 --batch_size 8 --keep_nbest_models 1 --encoder_conf output_size=16 --encoder_conf attention_heads=2 --encoder_conf linear_units=16 --encoder_conf num_blocks=1" \
    --inference_config conf/decode_ctc.yaml \
    "$@"
