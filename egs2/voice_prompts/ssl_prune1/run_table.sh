#!/usr/bin/env bash
# The main job at several sizes against two baselines with the same number of updates:
#   ours     query-key and value-output dimensions inside heads, heads, feed-forward, CNN
#   heads    the same, but attention is pruned by whole heads only
#   random   random structured pruning, then distillation
# Run ./run.sh once before (data, teacher, dense scores). Options: --targets, --seeds (for 0.5).
set -e
set -u
set -o pipefail

targets="0.3 0.5 0.7" # Shares of parameters to remove.
seeds="0 1 2"         # Seeds of the middle target; the others have seed 0.
expdir=exp            # As in run.sh.

# shellcheck source=parse_options.sh
. ./parse_options.sh
# shellcheck source=path.sh
. ./path.sh

experiments=()
# one NAME TARGET SEED OPTION...: an experiment from pruning to scores, if it is not there yet.
one() {
    local tag="$1_$2"
    if [ "$3" != 0 ]; then tag+="_seed$3"; fi
    experiments+=("${expdir}/ssl_prune_${tag}")
    if [ -f "${expdir}/ssl_prune_${tag}/whisper/test_en/scores.json" ]; then return; fi
    ./run.sh --stage 5 --stop_stage 11 --asr_train_set "" --expdir "${expdir}" \
        --prune_tag "${tag}" --target "$2" --seed "$3" "${@:4}"
}

for target in ${targets}; do
    if [ "${target}" = 0.5 ]; then use=${seeds}; else use=0; fi
    for seed in ${use}; do
        one ours "${target}" "${seed}"
        one heads "${target}" "${seed}" --prune_args "--pruning_conf protected=[qk,vo]"
        one random "${target}" "${seed}" --method random \
            --distill_args "--num_iters_per_epoch 120 --scheduler_conf max_steps=600"
    done
done
python3 -m espnet_prune.bin.ssl_prune_table --score whisper/test_en/scores.json \
    --output "${expdir}/TABLE.md" "${experiments[@]}"
