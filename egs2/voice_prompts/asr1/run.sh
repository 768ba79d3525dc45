#!/usr/bin/env bash
# Speech recognition on Debian's English voice prompts, with the model of ../ssl_prune1. --upstream
# says what encoder; --help shows all options.
set -e
set -u
set -o pipefail

# shellcheck source=probe_options.sh
. ./probe_options.sh

./superb.sh \
    --local_data_opts "--download_dir ../ssl_prune1/downloads --debug ${debug}" \
    --superb_task ASR \
    --espnet_task asr \
    --token_type char \
    --train_set "train_en${suffix}" \
    --valid_set "dev_en${suffix}" \
    --test_sets "test_en${suffix}" \
    --config "conf/train_asr_ctc${suffix}.yaml" \
    --inference_model valid.loss.ave.pth \
    "${defaults[@]}" "${options[@]}"
