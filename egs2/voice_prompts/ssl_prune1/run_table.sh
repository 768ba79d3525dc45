#!/usr/bin/env bash
# The main job at several sizes against others with the same number of updates:
#   ours     query-key and value-output dimensions inside heads, heads, feed-forward, CNN
#   heads    the same, but attention is pruned by whole heads only
#   noste    as ours, but without the straight-through estimator
#   random   random structured pruning, then distillation
#   scratch  random weights in the sizes of ours, then distillation
# It ends with a table and a plot of loss and WER against parameters in expdir, and with ours and
# noste, a plot of the course of both (ste_TARGET.png). Run ./run.sh before, at least its stages 1 to
# 4 (data, teacher). What is finished is not run again, so that it can be stopped and called again.
set -e
set -u
set -o pipefail

targets="0.5 0.7 0.3"       # Shares of parameters to remove.
seeds="0 1 2"               # Seeds of the target 0.5; the others have seed 0.
methods="ours heads random" # Rows of the table.
nj=1                        # Experiments at a time, each with its share of the cores.
expdir=                     # As in run.sh.
python=python3              # As in run.sh.
debug=false                 # As in run.sh.
output=TABLE.md             # Name of the table in expdir.

# shellcheck source=parse_options.sh
. ./parse_options.sh
# shellcheck source=path.sh
. ./path.sh

suffix=
updates=600 # those of prune.yaml and distill.yaml together
if "${debug}"; then
    suffix=_debug
    updates=12
fi
expdir=${expdir:-exp${suffix}}
scores=whisper/test_en${suffix}/scores.json
# All updates after slimming.
alone="--num_iters_per_epoch $((updates / 2)) --scheduler_conf max_steps=${updates}"

export OMP_NUM_THREADS=$((($(nproc) + nj - 1) / nj))
# Wait until fewer than $1 experiments run.
wait_for() {
    while [ "$(jobs -rp | wc -l)" -ge "$1" ]; do
        wait -n || {
            echo "$0: error: an experiment failed, see ${expdir}/table_*.log" >&2
            exit 1
        }
    done
}

experiments=()
# one NAME TARGET SEED OPTION...: start an experiment from pruning to scores, if it is not there.
one() {
    local tag="$1_$2"
    if [ "$3" != 0 ]; then tag+="_seed$3"; fi
    local exp=${expdir}/ssl_prune_${tag}
    experiments+=("${exp}")
    if [ "${tag}" = ours_0.5 ] && [ ! -e "${exp}" ] && [ -d "${expdir}/ssl_prune_prune_l0_0.5" ]; then
        ln -s ssl_prune_prune_l0_0.5 "${exp}" # the main job itself
    fi
    if [ -f "${exp}/${scores}" ]; then return; fi
    wait_for "${nj}"
    echo "$(date '+%H:%M:%S') ${tag}: log in ${expdir}/table_${tag}.log"
    ./run.sh --stage 5 --stop_stage 11 --asr_train_set "" --expdir "${expdir}" \
        --debug "${debug}" --python "${python}" \
        --prune_tag "${tag}" --target "$2" --seed "$3" "${@:4}" > "${expdir}/table_${tag}.log" 2>&1 &
}

for target in ${targets}; do
    if [ "${target}" = 0.5 ]; then use=${seeds}; else use=0; fi
    for seed in ${use}; do
        for method in ${methods}; do
            case "${method}" in
                ours) options=() ;;
                heads) options=(--prune_args "--pruning_conf protected=[qk,vo]") ;;
                noste) options=(--prune_args "--pruning_conf ste=false") ;;
                random) options=(--method random --distill_args "${alone}") ;;
                scratch)
                    like=${expdir}/ssl_prune_ours_${target}
                    if [ "${seed}" != 0 ]; then like+="_seed${seed}"; fi
                    if [ ! -d "${like}/pruned" ]; then wait_for 1; fi
                    options=(--method scratch --like "${like}/pruned" --distill_args "${alone}")
                    ;;
                *)
                    echo "$0: error: unknown method '${method}', choose ours, heads, noste, random or scratch" >&2
                    exit 2
                    ;;
            esac
            one "${method}" "${target}" "${seed}" "${options[@]}"
        done
    done
done
wait_for 1
if [[ " ${methods} " = *" ours "* ]] && [[ " ${methods} " = *" noste "* ]]; then
    for target in ${targets}; do
        tag=${target}
        if [ "${target}" = 0.5 ] && [ "${seeds%% *}" != 0 ]; then tag+="_seed${seeds%% *}"; fi
        ${python} -m espnet_prune.bin.ssl_prune_compare --output "${expdir}/ste_${target}.png" \
            --run "with STE" "${expdir}/ssl_prune_ours_${tag}/prune" \
            --run "without STE" "${expdir}/ssl_prune_noste_${tag}/prune"
    done
fi
${python} -m espnet_prune.bin.ssl_prune_table --score "${scores}" \
    --output "${expdir}/${output}" "${experiments[@]}"
