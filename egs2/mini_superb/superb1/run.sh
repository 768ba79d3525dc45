#!/usr/bin/env bash
# What encoders are worth on four small tasks on real speech: spoken digits (KS, each speaker left
# out once) and their speakers (SID), recognition of voice prompts (ASR) and of their languages (LID).
# Rows are the dense Whisper tiny.en, what ../../voice_prompts/ssl_prune1 made of it, and students of
# the same sizes that were distilled from scratch. What is finished is not run again, as long as it
# was made with the same encoder, learning rate, options and data.
set -e
set -u
set -o pipefail

# shellcheck source=template/common/options.sh
. template/common/options.sh

# Options
# General
stage=1            # First stage to run.
stop_stage=10000   # Last stage to run.
debug=false        # Short runs with fewer encoders, seeds and rates, in exp_debug.
nj=2               # Encoders at a time, each with its share of the cores.
expdir=exp         # Everything that is computed.
workdir=           # Folder for data, downloads and audio of all recipes; their own folders when empty.
fsdd=${FSDD:-}     # Free Spoken Digit Dataset: its directory; db.sh's, or its authors', when empty.
ssl_prune_exp=../../voice_prompts/ssl_prune1/exp # Where ssl_prune1's encoders are, or go to.
encoders=          # "NAME=DIR_OR_HUB_NAME ..."; the dense one and those of ssl_prune_exp when empty.
tasks="KS SID ASR LID" # Columns.
seeds="0 1 2"      # Seeds of the probes of KS and SID; the other tasks have the first.
learning_rates="1e-3 3e-3 1e-2" # For KS, SID and LID, see stage 3; those of the configs when empty.
# End of options

# shellcheck disable=SC2034
stages="1 encoders, 2 data, 3 learning rates, 4 probes, 5 results."
parse_options "$@"

targets=(0.5 0.7 0.3)
scratch_targets=(0.5 0.7)
if "${debug}"; then
    unless_given expdir exp_debug
    unless_given ssl_prune_exp ../../voice_prompts/ssl_prune1/exp_debug
    unless_given seeds "0 1"
    unless_given learning_rates "1e-3 1e-2"
    targets=(0.5)
    scratch_targets=(0.5)
fi
recipes=() task_words=() encoder_words=() seed_words=() rate_words=()
words task_words "${tasks}"
words seed_words "${seeds}"
words rate_words "${learning_rates}"
for task in "${task_words[@]}"; do
    case "${task}" in
        KS) recipes+=(KS=../../fsdd/superb_ks1) ;;
        SID) recipes+=(SID=../../fsdd/superb_sid1) ;;
        ASR) recipes+=(ASR=../../voice_prompts/superb_asr1) ;;
        LID) recipes+=(LID=../../voice_prompts/superb_lid1) ;;
        *) option_error "--tasks has '${task}', choose from KS, SID, ASR and LID" ;;
    esac
done

# shellcheck source=template/common/path.sh
. template/common/path.sh
# shellcheck source=template/common/stages.sh
. template/common/stages.sh

# Absolute: recipes run in their own directories.
case "${fsdd}" in "" | /*) ;; *) fsdd=${PWD}/${fsdd} ;; esac
export FSDD=${fsdd}
mkdir -p "${expdir}" "${ssl_prune_exp}"
ssl_prune_exp=$(cd "${ssl_prune_exp}" && pwd)
words encoder_words "${encoders}"
if [ -z "${encoders}" ]; then
    encoder_words=("dense=${ssl_prune_exp}/teacher_openai_whisper-tiny.en")
    for target in "${targets[@]}"; do
        encoder_words+=("ours_${target}=${ssl_prune_exp}/ssl_prune_ours_${target}/pruned")
    done
    for target in "${scratch_targets[@]}"; do
        encoder_words+=("scratch_${target}=${ssl_prune_exp}/ssl_prune_scratch_${target}/pruned")
    done
fi

# A hundred trainings of seconds: their processes are forks of one that has imported everything.
PATH=${MAIN_ROOT}/espnet_prune/launch:${PATH} # its own path may hold blanks
python=warm_python.py
if [ -z "${WARM_PYTHON:-}" ]; then
    warm=$(mktemp -d)
    export WARM_PYTHON=${warm}/socket
    OMP_NUM_THREADS=$(((OMP_NUM_THREADS + nj - 1) / nj)) "${python}" --serve "${WARM_PYTHON}" &
    server=$!
    trap 'kill "${server}" 2> /dev/null || true; rm -rf "${warm}"' EXIT
    while [ ! -S "${WARM_PYTHON}" ]; do
        if ! kill -0 "${server}" 2> /dev/null; then
            log "error: ${python} does not start, see above"
            exit 1
        fi
        sleep 0.2
    done
fi
hold "${expdir}"
shared=(--debug "${debug}" --python "${python}")
places=() # of a recipe, when there is a folder for all
if [ -n "${workdir}" ]; then
    mkdir -p "${workdir}"
    workdir=$(cd "${workdir}" && pwd)
    places=(--datadir "${workdir}/TASK/data" --dumpdir "${workdir}/TASK/dump")
    places+=(--download_dir "${workdir}/downloads")
fi

# The encoders of ssl_prune1 that are not there yet.
ssl_prune() {
    local sweep=(python3 -m espnet_prune encoder sweep "${shared[@]}" --expdir "${ssl_prune_exp}")
    sweep+=(--nj "${nj}" --seeds 0 --output TABLE_mini_superb.md)
    cd ../../voice_prompts/ssl_prune1
    ./run.sh "${shared[@]}" --expdir "${ssl_prune_exp}" --stop_stage 3 "${places[@]/TASK/ssl_prune}"
    "${sweep[@]}" --methods ours --targets "${targets[@]}" -- "${places[@]/TASK/ssl_prune}"
    "${sweep[@]}" --methods scratch --targets "${scratch_targets[@]}" -- "${places[@]/TASK/ssl_prune}"
}

if [ "${stage}" -le 1 ] && [ "${stop_stage}" -ge 1 ]; then
    log "Stage 1: Encoders: ${encoder_words[*]}"
    for encoder in "${encoder_words[@]}"; do
        dir=${encoder#*=}
        if [[ "${dir}" = "${ssl_prune_exp}"/* ]] && [ ! -f "${dir}/model.safetensors" ]; then
            mkdir -p "${expdir}/log"
            (ssl_prune) 2>&1 | tee "${expdir}/log/ssl_prune.log"
            break
        fi
    done
fi

python3 -m espnet_prune superb sweep "${shared[@]}" --nj "${nj}" --stage "${stage}" \
    --stop_stage "${stop_stage}" --encoders "${encoder_words[@]}" --tasks "${recipes[@]}" \
    --seeds "${seed_words[@]}" --seeded KS SID --learning_rates "${rate_words[@]}" --fixed ASR \
    --expdir "${expdir}" --command "${command_line}" -- "${places[@]}"
log "Done."
