#!/usr/bin/env bash
# Speech information retrieval: a speech LLM answers questions about long recordings, with audio
# tokens pruned by several strategies at several rates. Each recipe calls this; see --help.
set -e
set -u
set -o pipefail

# shellcheck source=stages.sh
. ./stages.sh

# General
stage=1             # First stage to run.
stop_stage=10000    # Last stage to run.
nj=2                # Parallel jobs in data preparation.
inference_nj=2      # Parallel jobs in inference.
python=python3      # Command that starts Python.
dumpdir=dump        # Audio for the check by Whisper.
expdir=exp          # Everything that is computed.

# Data
local_data_opts=    # Options for local/data.sh.
test_sets=          # Directories below data/, one or more; "NAME?" is left out where stage 1 makes none.
wer_model=openai/whisper-tiny.en # Checks synthesised speech ("": do not).
wer_windows=100     # Windows of up to 28 s that are checked in each set.

# Inference
speech_llm=compact  # qwen2_audio, diva or compact.
speech_llm_conf=    # Overrides that of the config, e.g. "model=DIR device=cuda".
inference_config=   # Config of sir_inference; conf/sir_<speech_llm>.yaml when empty.
inference_args=     # Options that override it, e.g. "--batch_size 4".
strategies="speechprune first_phase second_phase rap rac crop uniform" # Token pruning.
rates="0.2 0.4 0.6 0.8" # Pruning rates.
inference_tag=      # Names the experiment; from the speech LLM and its options when empty.

# shellcheck disable=SC2034
help_message="Usage: $0 [--option value]...
$(sed -n '/^# General/,/^help_message=/p' "${BASH_SOURCE[0]}" | grep -v '^# shellcheck\|^help_' | sed 's/^\([a-z_]*\)=\("[^"]*"\|[^ ]*\) *# /  --\1 [\2]  /')

Stages: 1 data, 2 check of the speech by Whisper, 3 inference, 4 t-SNE of the tokens of one recording,
5 scoring: RESULTS.md."

# shellcheck source=parse_options.sh
. ./parse_options.sh
if [ $# -ne 0 ]; then
    echo "$0: error: positional argument '$1'; options start with --" >&2
    exit 2
fi
# shellcheck source=path.sh
. ./path.sh
# shellcheck source=cmd.sh
. ./cmd.sh

if [ -z "${test_sets}" ]; then
    echo "$0: error: --test_sets is required" >&2
    exit 2
fi
inference_config=${inference_config:-conf/sir_${speech_llm}.yaml}
if [ ! -f "${inference_config}" ]; then
    echo "$0: error: ${inference_config}: no such file; --speech_llm is qwen2_audio, diva or compact" >&2
    exit 2
fi
if [ -z "${inference_tag}" ]; then
    inference_tag=$(basename "${inference_config%.yaml}")$(
        echo "${speech_llm_conf}${inference_args}" | sed -e 's/--/_/g' -e 's/[^A-Za-z0-9._-]/_/g' -e 's/^./_&/'
    )
fi
exp=${expdir}/${inference_tag}
inference_options=(--config "${inference_config}" --speech_llm "${speech_llm}")
inference_options+=(--strategies "${strategies}" --rates "${rates}")
for word in ${speech_llm_conf}; do inference_options+=(--speech_llm_conf "${word}"); done

# Whether stage $1 is to be run.
wanted() {
    [ "${stage}" -le "$1" ] && [ "${stop_stage}" -ge "$1" ]
}

if wanted 1; then
    log "Stage 1: Data preparation"
    # shellcheck disable=SC2086
    local/data.sh --nj "${nj}" ${local_data_opts}
fi

read -r -a asked <<< "${test_sets}"
sets=()
for dset in "${asked[@]}"; do
    if [ -f "data/${dset%\?}/wav.scp" ]; then
        sets+=("${dset%\?}")
    elif [ "${dset}" != "${dset%\?}" ]; then
        log "There is no data/${dset%\?}: left out"
    else
        echo "$0: error: data/${dset}: no such data directory; look at --test_sets, or run stage 1" >&2
        exit 1
    fi
done
if [ ${#sets[@]} -eq 0 ]; then
    echo "$0: error: none of '${test_sets}' is below data/; look at --test_sets, or run stage 1" >&2
    exit 1
fi

if wanted 2 && [ -n "${wer_model}" ]; then
    log "Stage 2: Word error rate of ${wer_model} on the speech"
    ${python} -m espnet_prune.hub.pretrained --model "${wer_model}" --output_dir "${expdir}/whisper"
    for dset in "${sets[@]}"; do
        if [ ! -d "data/${dset}_windows" ]; then
            log "${dset}: nothing to check, it is of recordings, or a part of another set"
            continue
        fi
        windows=${dumpdir}/${dset}_windows
        ${python} -m espnet_prune.recipe subset --random "${wer_windows}" \
            "data/${dset}_windows" "data/${dset}_checked"
        ${python} -m espnet_prune.recipe format_wav --nj "${nj}" "data/${dset}_checked" "${windows}"
        ${python} -m espnet_prune.bin.whisper_decode --teacher_dir "${expdir}/whisper" \
            --data_dir "${windows}" --output_dir "${expdir}/wer_${dset}"
        ${python} -m espnet_prune.bin.score_text --ref "${windows}/text" \
            --hyp "${expdir}/wer_${dset}/text" --output_dir "${expdir}/wer_${dset}"
    done
fi

if wanted 3; then
    log "Stage 3: Inference: ${exp}"
    for dset in "${sets[@]}"; do
        answers=${exp}/${dset}
        mkdir -p "${answers}/logdir"
        jobs=$(wc -l < "data/${dset}/wav.scp")
        jobs=$((inference_nj < jobs ? inference_nj : jobs))
        ${python} -m espnet_prune.recipe split "data/${dset}/wav.scp" "${jobs}" \
            "${answers}/logdir/JOB.keys"
        threads=$(((OMP_NUM_THREADS + jobs - 1) / jobs))
        # shellcheck disable=SC2086
        ${decode_cmd} JOB=1:"${jobs}" "${answers}/logdir/sir_inference.JOB.log" \
            env OMP_NUM_THREADS="${threads}" ${python} -m espnet_prune.bin.sir_inference \
            "${inference_options[@]}" --data_dir "data/${dset}" \
            --key_file "${answers}/logdir/JOB.keys" --output_dir "${answers}" ${inference_args}
    done
fi

if wanted 4; then
    log "Stage 4: t-SNE of kept, dropped and text tokens"
    for dset in "${sets[@]}"; do
        # shellcheck disable=SC2086
        ${decode_cmd} "${exp}/${dset}/logdir/sir_tsne.log" \
            ${python} -m espnet_prune.bin.sir_tsne "${inference_options[@]}" \
            --data_dir "data/${dset}" --token_pruner speechprune --token_pruner_conf rate=0.2 \
            --plot "${exp}/${dset}/images/tsne.png" ${inference_args}
    done
fi

if wanted 5; then
    log "Stage 5: Scoring"
    for dset in "${sets[@]}"; do
        wer=${expdir}/wer_${dset}/scores.json
        # without windows it is of speech that is no longer there
        if [ ! -f "${wer}" ] || [ ! -d "data/${dset}_windows" ]; then wer=; fi
        ${python} -m espnet_prune.bin.sir_score --data_dir "data/${dset}" \
            --answers "${exp}/${dset}" --output_dir "${exp}/${dset}" --title "Results: ${dset}" \
            --command "${command_line}" ${wer:+--wer "${wer}"}
        log "${exp}/${dset}/RESULTS.md"
    done
fi

log "Done."
