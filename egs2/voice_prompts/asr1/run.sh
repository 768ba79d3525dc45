#!/usr/bin/env bash
# Speech recognition on Debian's English voice prompts, with the model of ../ssl_prune1. --upstream
# says what encoder; --help shows all options.
set -e
set -u
set -o pipefail

# shellcheck source=debug_option.sh
. ./debug_option.sh

suffix=
data="--download_dir ../ssl_prune1/downloads"
defaults=()
if "${debug}"; then
    suffix=_debug
    data+=" --debug true"
    defaults+=(--nj 1 --inference_nj 1 --dumpdir dump_debug --expdir exp_debug)
fi

./superb.sh \
    --local_data_opts "${data}" \
    --superb_task ASR \
    --espnet_task asr \
    --token_type char \
    --train_set "train_en${suffix}" \
    --valid_set "dev_en${suffix}" \
    --test_sets "test_en${suffix}" \
    --config "conf/train_asr_ctc${suffix}.yaml" \
    --inference_model valid.loss.ave.pth \
    "${defaults[@]}" "${options[@]}"
