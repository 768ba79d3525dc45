#!/usr/bin/env bash
# What encoders are worth on four small tasks on real speech: spoken digits (KS, each speaker left
# out once) and their speakers (SID), recognition of voice prompts (ASR) and of their languages (LID).
# Rows are the dense Whisper tiny.en, what ../../voice_prompts/ssl_prune1 made of it, and students of
# the same sizes that were distilled from scratch. What is finished is not run again, as long as it
# was made with the same encoder and learning rate.
set -e
set -u
set -o pipefail

# shellcheck source=debug_option.sh
. ./debug_option.sh
# shellcheck source=stages.sh
. ./stages.sh
set -- "${options[@]}"

# General
stage=1            # First stage to run.
stop_stage=10000   # Last stage to run.
nj=2               # Encoders at a time, each with its share of the cores.
expdir=exp         # Everything that is computed.
fsdd=${FSDD:-}     # Free Spoken Digit Dataset: its directory; "": db.sh's, or its authors'.
ssl_prune_exp=../../voice_prompts/ssl_prune1/exp # Where ssl_prune1's encoders are, or go to.
encoders=          # "NAME=DIR_OR_HUB_NAME ..."; "": the dense one and those of ssl_prune_exp.
tasks="KS SID ASR LID" # Columns.
seeds="0 1 2"      # Of the probes of KS and SID; the other tasks have the first.
learning_rates="1e-3 3e-3 1e-2" # For KS, SID and LID, see stage 3; "": those of the configs.

# shellcheck disable=SC2034
help_message="Usage: $0 [--debug true] [--option value]...
$(sed -n '/^# General/,/^help_message=/p' "${BASH_SOURCE[0]}" | grep -v '^# shellcheck\|^help_' | sed 's/^\([a-z_]*\)=\([^#]*[^ #]\)* *# /  --\1 [\2]  /')

Stages: 1 encoders, 2 data, 3 learning rates, 4 probes, 5 results."

targets="0.5 0.7 0.3"
scratch_targets="0.5 0.7"
if "${debug}"; then
    expdir+=_debug
    ssl_prune_exp+=_debug
    targets=0.5
    scratch_targets=0.5
    seeds="0 1"
    learning_rates="1e-3 1e-2"
fi

# shellcheck source=parse_options.sh
. ./parse_options.sh
if [ $# -ne 0 ]; then
    echo "$0: error: positional argument '$1'; options start with --" >&2
    exit 2
fi
# shellcheck source=path.sh
. ./path.sh
OMP_NUM_THREADS=$((($(nproc) + nj - 1) / nj))
# absolute PATH: recipes run in their own directories.
absolute() {
    case "$1" in
        "" | /*) echo "$1" ;;
        *) echo "${PWD}/$1" ;;
    esac
}
FSDD=$(absolute "${fsdd}")
export OMP_NUM_THREADS FSDD

# recipe_of TASK: its recipe's directory.
recipe_of() {
    case "$1" in
        KS) echo ../../fsdd/ks1 ;;
        SID) echo ../../fsdd/sid1 ;;
        ASR) echo ../../voice_prompts/asr1 ;;
        LID) echo ../../voice_prompts/lid1 ;;
        *)
            echo "$0: error: --tasks has '$1', choose from KS, SID, ASR and LID" >&2
            return 2
            ;;
    esac
}
for task in ${tasks}; do recipe_of "${task}" > /dev/null; done

mkdir -p "${expdir}" "${ssl_prune_exp}"
expdir=$(cd "${expdir}" && pwd)
ssl_prune_exp=$(cd "${ssl_prune_exp}" && pwd)
if [ -z "${encoders}" ]; then
    encoders=dense=${ssl_prune_exp}/teacher_openai_whisper-tiny.en
    for target in ${targets}; do
        encoders+=" ours_${target}=${ssl_prune_exp}/ssl_prune_ours_${target}/pruned"
    done
    for target in ${scratch_targets}; do
        encoders+=" scratch_${target}=${ssl_prune_exp}/ssl_prune_scratch_${target}/pruned"
    done
fi
read -r -a encoders <<< "${encoders}"
for n in "${!encoders[@]}"; do
    dir=${encoders[n]#*=}
    if [ -d "${dir}" ]; then encoders[n]=${encoders[n]%%=*}=$(absolute "${dir}"); fi
done

# A hundred trainings of seconds: their processes are forks of one that has imported everything.
python=${MAIN_ROOT}/espnet_prune/plugin/warm_python.py
if [ -z "${WARM_PYTHON:-}" ]; then
    warm=$(mktemp -d)
    export WARM_PYTHON=${warm}/socket
    python3 "${python}" --serve "${WARM_PYTHON}" &
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

jobs=()
# start COMMAND...: in the background, when fewer than ${nj} run.
start() {
    if [ "${#jobs[@]}" -ge "${nj}" ]; then finish 1; fi
    "$@" &
    jobs+=($!)
}
# finish [N]: wait for the N oldest, or all, that were started; stop when one has failed.
finish() {
    local status=0 job
    for job in "${jobs[@]:0:${1:-${#jobs[@]}}}"; do
        wait "${job}" || status=1
        jobs=("${jobs[@]:1}")
    done
    if [ "${status}" != 0 ]; then
        for job in "${jobs[@]}"; do wait "${job}" || true; done
        log "error: not all has run, see above"
        exit 1
    fi
}

# logged NAME COMMAND...: its output goes to ${expdir}/log/NAME.log. (Inside set -e has no effect.)
logged() {
    local file=${expdir}/log/$1.log
    mkdir -p "${expdir}/log"
    log "$1"
    if ! ("${@:2}") > "${file}" 2>&1; then
        log "error: $1 failed, see ${file}:"
        tail -n 5 "${file}" >&2
        return 1
    fi
}

# recipe TASK OPTION...: its run.sh.
recipe() {
    cd "$(recipe_of "$1")" && ./run.sh --debug "${debug}" --python "${python}" "${@:2}"
}

# weights_of ENCODER: inputs for digest that tell one encoder NAME=DIR from another.
weights_of() { printf '%s\n' "${1#*=}"/{model.safetensors,config.json}; }

# probe TASK ENCODER SEED OPTION...: its recipe for an encoder NAME=DIR; all tasks share its frames.
probe() {
    local dir=${expdir}/${2%%=*}
    recipe "$1" --upstream "${2#*=}" --seed "$3" --expdir "${dir}" \
        --results_dir "${dir}/results_seed$3" --feature_cache true --nj 1 --inference_nj 1 "${@:4}"
}

# The encoders of ssl_prune1 that are not there yet.
ssl_prune() {
    local common=(--debug "${debug}" --python "${python}" --expdir "${ssl_prune_exp}")
    local table=("${common[@]}" --nj "${nj}" --seeds 0 --output TABLE_mini_superb.md)
    cd ../../voice_prompts/ssl_prune1 &&
        ./run.sh "${common[@]}" --stop_stage 4 &&
        ./run_table.sh "${table[@]}" --methods ours --targets "${targets}" &&
        ./run_table.sh "${table[@]}" --methods scratch --targets "${scratch_targets}"
}

if [ "${stage}" -le 1 ] && [ "${stop_stage}" -ge 1 ]; then
    log "Stage 1: Encoders: ${encoders[*]}"
    for encoder in "${encoders[@]}"; do
        dir=${encoder#*=}
        if [[ "${dir}" = "${ssl_prune_exp}"/* ]] && [ ! -f "${dir}/model.safetensors" ]; then
            logged ssl_prune ssl_prune
            break
        fi
    done
fi

if [ "${stage}" -le 2 ] && [ "${stop_stage}" -ge 2 ]; then
    log "Stage 2: Data"
    for task in ${tasks}; do
        start logged "data_${task}" recipe "${task}" --upstream "${encoders[0]#*=}" --stop_stage 2
    done
    finish
fi

first_seed=${seeds%% *}
# What was made with another encoder of this name, or in another sweep, is not taken for this one's.
if [ "${stop_stage}" -ge 3 ]; then
    for encoder in "${encoders[@]}"; do
        mapfile -t weights < <(weights_of "${encoder}")
        fresh "${expdir}/${encoder%%=*}" "${weights[@]}"
    done
    if [ -n "${learning_rates}" ]; then
        mapfile -t weights < <(weights_of "${encoders[0]}")
        fresh "${expdir}/learning_rates" "${weights[@]}" "${learning_rates}" "${first_seed}"
    fi
fi

# sweep TASK: the rates on the first encoder; the one that is best on its validation data is kept.
sweep() {
    local exp=${expdir}/${encoders[0]%%=*}
    probe "$1" "${encoders[0]}" "${first_seed}" --stage 4 --stop_stage 6 --probe_tag sweep \
        --learning_rates "${learning_rates}" || return 1
    ${python} -m espnet_prune.evaluate.superb.common_rate "${exp}/superb_$1_sweep"_* \
        --output "${expdir}/learning_rates/$1.json" || return 1
    rm -rf "${exp}/superb_$1_sweep"_*
}

if [ "${stage}" -le 3 ] && [ "${stop_stage}" -ge 3 ] && [ -n "${learning_rates}" ]; then
    log "Stage 3: Learning rates, chosen on the validation data of ${encoders[0]%%=*} for all encoders"
    wanted=()
    for task in ${tasks}; do
        # ASR's training is that of the main job
        if [ "${task}" != ASR ] && [ ! -f "${expdir}/learning_rates/${task}.json" ]; then wanted+=("${task}"); fi
    done
    if [ "${#wanted[@]}" -gt 0 ]; then
        logged upstream probe "${wanted[0]}" "${encoders[0]}" "${first_seed}" --stage 3 --stop_stage 3
    fi
    for task in "${wanted[@]}"; do start logged "sweep_${task}" sweep "${task}"; done
    finish
fi

# rate_of TASK: "" for the config's.
rate_of() {
    local file=${expdir}/learning_rates/$1.json
    if [ -n "${learning_rates}" ] && [ -f "${file}" ]; then
        sed -n 's/.*"chosen": *\([^,]*\).*/\1/p' "${file}"
    fi
}

# probes ENCODER: all tasks and seeds; then what only they needed is removed.
probes() {
    local name=${1%%=*} task seed rate args use results
    for task in ${tasks}; do
        use=${first_seed}
        if [ "${task}" = KS ] || [ "${task}" = SID ]; then use=${seeds}; fi
        rate=$(rate_of "${task}")
        args=
        # YAML reads 1.0e-1 as a number, but 1e-1 as text.
        if [ -n "${rate}" ]; then args="--optim_conf lr=$(LC_ALL=C printf %e "${rate}")"; fi
        for seed in ${use}; do
            results=${expdir}/${name}/results_seed${seed}/${task}
            if [ -f "${results}/run.json" ] && [ "$(cat "${results}/.rate" 2> /dev/null)" = "${rate:-config}" ]; then
                continue
            fi
            rm -f "${results}/.rate"
            logged "${name}_${task}_seed${seed}" probe "${task}" "$1" "${seed}" --stage 3 \
                --probe_tag "seed${seed}${rate:+_lr${rate}}" --probe_args "${args}" || return 1
            echo "${rate:-config}" > "${results}/.rate"
        done
    done
    rm -rf "${expdir}/${name}/feature_cache"
    find "${expdir}/${name}" -name checkpoint.pth -delete
}

if [ "${stage}" -le 4 ] && [ "${stop_stage}" -ge 4 ]; then
    log "Stage 4: Probes, ${nj} encoders at a time"
    for encoder in "${encoders[@]}"; do start probes "${encoder}"; done
    finish
fi

if [ "${stage}" -le 5 ] && [ "${stop_stage}" -ge 5 ]; then
    log "Stage 5: Results: ${expdir}/RESULTS.md"
    rows=()
    for encoder in "${encoders[@]}"; do
        rows+=(--encoder "${encoder%%=*}")
        for seed in ${seeds}; do rows+=("${expdir}/${encoder%%=*}/results_seed${seed}"); done
    done
    chosen=
    for task in ${tasks}; do
        rate=$(rate_of "${task}")
        chosen+=${rate:+" ${task} ${rate},"}
    done
    note=()
    if [ -n "${chosen}" ]; then
        note=(--note "Chosen on validation data of ${encoders[0]%%=*} among ${learning_rates}:${chosen%,}.")
    fi
    # shellcheck disable=SC2086
    ${python} -m espnet_prune.bin.superb_table "${rows[@]}" --tasks ${tasks} "${note[@]}" \
        --command "${command_line}" --output_dir "${expdir}"
fi

log "Done."
