#!/usr/bin/env bash
# Prune WavLM, HuBERT or wav2vec 2.0 on LibriSpeech, in two phases, and train CTC ASR on the frozen
# result. db.sh says where LibriSpeech is; --help lists all options.
set -e
set -u
set -o pipefail

# LibriSpeech
teacher=microsoft/wavlm-base-plus # Hub name or directory; its config is conf/prune_<model>.yaml.
train_hours=960  # Hours to prune and distil on: 960 or 100.
accum_grad=      # Forward passes of an update; by default the config's divided among GPUs.
prune_config=    # Another config of phase 1.
distill_config=  # Another config of phase 2.
asr_config=      # Another config of the downstream ASR.
debug=false      # Small configs, for testing.
# end

command_line=$(printf '%q ' "$0" "$@") # for the results
export command_line
ngpu=0
num_nodes=1
expdir=
options=()
while [ $# -gt 0 ]; do
    name=${1#--}
    name=${name//-/_}
    case "$1" in
        -h | --help)
            echo "Options of this recipe:"
            sed -n '/^# LibriSpeech/,/^# end/p' "$0" | sed -n 's/^\([a-z_]*\)=\([^ ]*\) *# /  --\1 [\2]  /p'
            echo
            exec ./ssl_prune.sh --help
            ;;
        --*) ;;
        *) name= ;;
    esac
    case "${name}" in
        teacher | train_hours | accum_grad | prune_config | distill_config | asr_config | debug | \
            ngpu | num_nodes | expdir)
            if [ $# -lt 2 ]; then
                echo "$0: error: option $1 wants a value" >&2
                exit 2
            fi
            printf -v "${name}" '%s' "$2"
            shift 2
            ;;
        *)
            options+=("$1")
            shift
            ;;
    esac
done

defaults=(--nj "$(nproc)" --inference_nj "$(nproc)")
case "${debug}" in
    false) expdir=${expdir:-exp} ;;
    true)
        expdir=${expdir:-exp_debug}
        prune_config=${prune_config:-conf/prune_debug.yaml}
        distill_config=${distill_config:-conf/distill_debug.yaml}
        asr_config=${asr_config:-conf/train_asr_ctc_debug.yaml}
        defaults=(--nj 1 --inference_nj 1 --dumpdir dump_debug)
        ;;
    *)
        echo "$0: error: --debug takes true or false, not '${debug}'" >&2
        exit 2
        ;;
esac
case "${train_hours}" in
    960) train_set=train_960 ;;
    100) train_set=train_clean_100 ;;
    *)
        echo "$0: error: --train_hours is '${train_hours}', choose 960 or 100" >&2
        exit 2
        ;;
esac

# shellcheck source=path.sh
. ./path.sh

if [ -z "${prune_config}" ] || [ -z "${distill_config}" ] || [ -z "${asr_config}" ]; then
    model=$(python3 -m espnet_prune.recipe model_name "${teacher}")
    size=base
    if [ "${model%_large}" != "${model}" ]; then size=large; fi
    prune_config=${prune_config:-conf/prune_${model}.yaml}
    distill_config=${distill_config:-conf/distill_${size}.yaml}
    asr_config=${asr_config:-conf/train_asr_ctc_${size}.yaml}
fi

# An update is to see the audio that the config says on any number of GPUs. The hours go into the
# names of the configs, and so into those of all that is made with them.
gpus=$((ngpu > 1 ? ngpu * num_nodes : num_nodes))
for phase in prune distill; do
    config=${phase}_config
    spread=${expdir}/conf/$(basename "${!config}" .yaml)_${train_hours}h.yaml
    python3 -m espnet_prune.recipe spread_updates "${!config}" "${spread}" --gpus "${gpus}" \
        ${accum_grad:+--accum_grad "${accum_grad}"}
    printf -v "${config}" '%s' "${spread}"
done

./ssl_prune.sh \
    --local_data_opts "--train_hours ${train_hours}" \
    --train_set "${train_set}" \
    --valid_set dev \
    --teacher "${teacher}" \
    --target 0.72 \
    --prune_config "${prune_config}" \
    --distill_config "${distill_config}" \
    --asr_train_set train_clean_100 \
    --asr_valid_set dev_clean \
    --test_sets "test_clean test_other" \
    --asr_config "${asr_config}" \
    --inference_config conf/decode_ctc.yaml \
    --inference_asr_model valid.cer_ctc.ave.pth \
    --ngpu "${ngpu}" \
    --num_nodes "${num_nodes}" \
    --expdir "${expdir}" \
    "${defaults[@]}" "${options[@]}"
