#!/usr/bin/env bash
# Prune WavLM, HuBERT or wav2vec 2.0 on LibriSpeech, in two phases, and train CTC ASR on the frozen
# result. db.sh says where LibriSpeech is; --help shows all options.
set -e
set -u
set -o pipefail

# shellcheck source=template/common/options.sh
. template/common/options.sh

# Options
# LibriSpeech
train_hours=960 # Hours to prune and distil on: 960 or 100.
# End of options
take_options "$@"
case "${train_hours}" in
    960) train_set=train_960 ;;
    100) train_set=train_clean_100 ;;
    *) option_error "--train_hours is '${train_hours}', choose 960 or 100" ;;
esac

phase="--max_epoch 2 --num_iters_per_epoch 4 --accum_grad 2 --batch_bins 64000 --num_workers 1 --log_interval 1"
phase+=" --crop_seconds 1.5 --model_conf layers=null --optim_conf lr=1.0e-3 --scheduler_conf max_steps=4"
exec template/ssl_prune1/ssl_prune.sh \
    --local_data_opts "--train_hours ${train_hours}" \
    --data_tag "${train_hours}h" \
    --train_set "${train_set}" \
    --valid_set dev \
    --teacher microsoft/wavlm-base-plus \
    --target 0.72 \
    --prune_config conf/prune_SIZE.yaml \
    --distill_config conf/distill_SIZE.yaml \
    --spread_updates true \
    --debug_prune_args "${phase} --pruning_conf ramp_updates=2 --pruning_conf init=4.5 --pruning_conf gate_lr=0.2 --pruning_conf multiplier_lr=0.1" \
    --debug_distill_args "${phase}" \
    --asr_train_set train_clean_100 \
    --asr_valid_set dev_clean \
    --test_sets "test_clean test_other" \
    --asr_config conf/train_asr_ctc_SIZE.yaml \
    --debug_asr_args "--max_epoch 1 --num_iters_per_epoch null --batch_size 4 --num_workers 1 --log_interval 1 --optim_conf lr=1.0e-3 --specaug_conf freq_mask_width_range=[0,4] --preencoder_conf input_size=24 --preencoder_conf output_size=8 --encoder_conf hidden_size=8 --encoder_conf output_size=8" \
    --inference_config conf/decode_ctc.yaml \
    --inference_asr_model valid.cer_ctc.ave.pth \
    --nj "$(nproc)" \
    --inference_nj "$(nproc)" \
    "${rest[@]}"
