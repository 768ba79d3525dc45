#!/usr/bin/env bash
# Speech information retrieval: a speech LLM answers questions about long recordings, with audio
# tokens pruned by several strategies at several rates. Each recipe calls this; see --help.
set -e
set -u
set -o pipefail

# shellcheck source=../common/options.sh
. template/common/options.sh

# Options
# General
stage=1               # First stage to run.
stop_stage=10000      # Last stage to run.
skip_stages=          # Stages to leave out, e.g. "2 4".
skip_data_prep=false  # Leave out data preparation and its check (stages 1 and 2).
skip_eval=false       # Leave out inference, plot and scoring (stages 3 to 5).
debug=false           # A short run of all stages with a few items, in dump_debug and exp_debug.
ngpu=0                # Number of GPUs (0: CPU; 1: the speech LLM gets device=cuda).
nj=2                  # Parallel jobs in data preparation.
inference_nj=2        # Parallel jobs in inference, each with the model in memory; 1 on a GPU by default.
python=python3        # Command that starts Python.
seed=0                # Seed of the order of choices.
datadir=data          # Data directories.
download_dir=downloads # What stage 1 downloads.
dumpdir=dump          # Audio for the check by Whisper.
expdir=exp            # Everything that is computed.

# Data
local_data_opts=      # Options for local/data.sh.
test_sets=            # Directories below datadir, one or more; "NAME?" is left out where stage 1 makes none.
wer_model=openai/whisper-tiny.en # Checks synthesised speech; no check when empty.
wer_windows=100       # Windows of up to 28 s that are checked in each set.

# Inference
speech_llm=compact    # qwen2_audio, diva or compact.
speech_llm_conf=      # Overrides that of the config, e.g. "model=DIR device=cuda".
inference_config=     # Config of sir_inference; conf/sir_<speech_llm>.yaml when empty,
                      # conf/sir_qwen2_audio_letter.yaml has answers generated.
inference_args=       # Options that override it, e.g. "--batch_size 4".
strategies="speechprune first_phase second_phase rap rac crop uniform" # Strategies of token pruning.
rates="0.2 0.4 0.6 0.8" # Pruning rates.
inference_tag=        # Names the experiment; from the speech LLM and its options when empty.
# End of options

# shellcheck disable=SC2034
stages="1 data, 2 check of the speech by Whisper, 3 inference, 4 t-SNE of the tokens of one recording,
  5 scoring: RESULTS.md."
parse_options "$@"

if [ -z "${test_sets}" ]; then option_error "--test_sets is required"; fi
inference_config=${inference_config:-conf/sir_${speech_llm}.yaml}
if [ ! -f "${inference_config}" ]; then
    option_error "${inference_config}: no such file; --speech_llm is qwen2_audio, diva or compact"
fi

# shellcheck source=../common/path.sh
. template/common/path.sh
# shellcheck source=../common/cmd.sh
. template/common/cmd.sh
# shellcheck source=../common/stages.sh
. template/common/stages.sh

if "${debug}"; then
    unless_given dumpdir dump_debug
    unless_given expdir exp_debug
fi
if "${skip_data_prep}"; then skip_stages+=" 1 2"; fi
if "${skip_eval}"; then skip_stages+=" 3 4 5"; fi
if [ -z "${inference_tag}" ]; then
    inference_tag=$(basename "${inference_config%.yaml}")$(
        tag_of "${speech_llm_conf}${inference_args}" | sed -e 's/^./_&/'
    )
fi
exp=${expdir}/${inference_tag}
inference_options=(--config "${inference_config}" --speech_llm "${speech_llm}")
inference_options+=(--strategies "${strategies}" --rates "${rates}" --seed "${seed}")
conf_words=() inference_words=() data_words=() asked=()
words conf_words "${speech_llm_conf}"
words inference_words "${inference_args}"
if [ "${ngpu}" -gt 0 ]; then conf_words=(device=cuda "${conf_words[@]}"); fi
# A GPU need not have room for two models of 16 GB.
if [[ " ${conf_words[*]} ${inference_words[*]}" = *" device=cuda"* ]] ||
    grep -Eq "^[^#]*\bdevice: *[\"']?cuda" "${inference_config}"; then
    unless_given inference_nj 1
fi
for word in "${conf_words[@]}"; do inference_options+=(--speech_llm_conf "${word}"); done

if wanted 3 || wanted 4 || wanted 5; then hold "${exp}"; fi
if wanted 1 || wanted 2; then
    hold --wait "${datadir}"
    hold --wait "${dumpdir}"
    hold --wait "${expdir}" # whisper and what it hears
fi

if wanted 1; then
    log "Stage 1: Data preparation"
    words data_words "${local_data_opts}"
    local/data.sh --nj "${nj}" --datadir "${datadir}" --download_dir "${download_dir}" "${data_words[@]}"
fi

words asked "${test_sets}"
sets=()
for dset in "${asked[@]}"; do
    if [ -f "${datadir}/${dset%\?}/wav.scp" ]; then
        sets+=("${dset%\?}")
    elif [ "${dset}" != "${dset%\?}" ]; then
        log "There is no ${datadir}/${dset%\?}: left out"
    else
        echo "$0: error: ${datadir}/${dset}: no such data directory; look at --test_sets, or run stage 1" >&2
        exit 1
    fi
done
if [ ${#sets[@]} -eq 0 ]; then
    echo "$0: error: none of '${test_sets}' is below ${datadir}; look at --test_sets, or run stage 1" >&2
    exit 1
fi

# heard DSET: what the WER of its speech depends on.
heard() {
    digest "${datadir}/$1_windows/wav.scp" "${datadir}/$1_windows/text" "${wer_model} ${wer_windows}"
}

if wanted 2 && [ -n "${wer_model}" ]; then
    log "Stage 2: Word error rate of ${wer_model} on the speech"
    ${python} -m espnet_prune hub fetch --model "${wer_model}" --output_dir "${expdir}/whisper"
    for dset in "${sets[@]}"; do
        if [ ! -d "${datadir}/${dset}_windows" ]; then
            log "${dset}: nothing to check, it is of recordings, or a part of another set"
            continue
        fi
        windows=${dumpdir}/${dset}_windows
        ${python} -m espnet_prune data subset --random "${wer_windows}" \
            "${datadir}/${dset}_windows" "${datadir}/${dset}_checked"
        ${python} -m espnet_prune data format --nj "${nj}" "${datadir}/${dset}_checked" "${windows}"
        ${python} -m espnet_prune.bin.whisper_inference --teacher_dir "${expdir}/whisper" \
            --data_dir "${windows}" --output_dir "${expdir}/wer_${dset}"
        ${python} -m espnet_prune score text --ref "${windows}/text" \
            --hyp "${expdir}/wer_${dset}/text" --output_dir "${expdir}/wer_${dset}"
        heard "${dset}" > "${expdir}/wer_${dset}/.made"
    done
fi
for dir in "${datadir}" "${dumpdir}" "${expdir}"; do
    if [ -n "${held[${dir}]:-}" ]; then release "${dir}"; fi
done

if wanted 3; then
    log "Stage 3: Inference: ${exp}"
    for dset in "${sets[@]}"; do
        answers=${exp}/${dset}
        mkdir -p "${answers}/logdir"
        jobs=$(wc -l < "${datadir}/${dset}/wav.scp")
        jobs=$((inference_nj < jobs ? inference_nj : jobs))
        ${python} -m espnet_prune data split "${datadir}/${dset}/wav.scp" "${jobs}" \
            "${answers}/logdir/JOB.keys"
        threads=$(((OMP_NUM_THREADS + jobs - 1) / jobs))
        # shellcheck disable=SC2086
        ${decode_cmd} JOB=1:"${jobs}" "${answers}/logdir/sir_inference.JOB.log" \
            env OMP_NUM_THREADS="${threads}" ${python} -m espnet_prune.bin.sir_inference \
            "${inference_options[@]}" --data_dir "${datadir}/${dset}" \
            --key_file "${answers}/logdir/JOB.keys" --output_dir "${answers}" "${inference_words[@]}"
    done
fi

if wanted 4; then
    log "Stage 4: t-SNE of kept, dropped and text tokens"
    for dset in "${sets[@]}"; do
        # shellcheck disable=SC2086
        ${decode_cmd} "${exp}/${dset}/logdir/sir_tsne.log" \
            ${python} -m espnet_prune sir tsne "${inference_options[@]}" \
            --data_dir "${datadir}/${dset}" --token_pruner speechprune --token_pruner_conf rate=0.2 \
            --plot "${exp}/${dset}/images/tsne.png" "${inference_words[@]}"
    done
fi

if wanted 5; then
    log "Stage 5: Scoring"
    for dset in "${sets[@]}"; do
        wer=${expdir}/wer_${dset}/scores.json
        if [ ! -f "${wer}" ]; then
            wer=
        elif [ ! -d "${datadir}/${dset}_windows" ] ||
            [ "$(cat "${expdir}/wer_${dset}/.made" 2> /dev/null)" != "$(heard "${dset}")" ]; then
            log "${wer} is left out: it is of other speech; run stage 2"
            wer=
        fi
        ${python} -m espnet_prune sir score --data_dir "${datadir}/${dset}" \
            --answers "${exp}/${dset}" --output_dir "${exp}/${dset}" --title "Results: ${dset}" \
            --command "${command_line}" ${wer:+--wer "${wer}"}
        log "${exp}/${dset}/RESULTS.md"
    done
fi

log "Done."
