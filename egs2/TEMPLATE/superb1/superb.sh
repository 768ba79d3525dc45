#!/usr/bin/env bash
# One downstream task on a frozen speech encoder, dense or pruned, by SUPERB's protocol: a probe is
# trained through ESPnet's own task, and scored. Each recipe calls this with its data and configs.
set -e
set -u
set -o pipefail

# shellcheck source=../common/options.sh
. template/common/options.sh

# Options
# General
stage=1               # First stage to run.
stop_stage=10000      # Last stage to run.
skip_stages=          # Stages to leave out, e.g. "1 2".
skip_data_prep=false  # Leave out data preparation (stages 1, 2 and 4).
skip_train=false      # Leave out the training (stages 5 and 6).
skip_eval=false       # Leave out inference, scoring and the results (stages 7 to 9).
debug=false           # A short run of all stages, in dump_debug and exp_debug, with --debug_args.
ngpu=0                # Number of GPUs (0: CPU).
num_nodes=1           # Number of nodes.
nj=2                  # Parallel jobs in data preparation.
inference_nj=2        # Parallel jobs in inference.
python=python3        # Command that starts Python.
seed=0                # Seed of batches and probe.
datadir=data          # Data directories.
download_dir=downloads # What stage 1 downloads.
dumpdir=dump          # Formatted audio.
expdir=exp            # Everything that is computed.
results_dir=          # Gets TASK/scores.json; <expdir>/superb_<upstream> when empty.

# Data
local_data_opts=      # Options for local/data.sh.
train_set=            # Data the probe is trained on.
valid_set=            # Data that checkpoint and learning rate are chosen on.
test_sets=            # One or more; the first one's score is the task's.
folds=                # Cross-validation: sets are named <set>_fold<fold>, e.g. "1 2", or all.
audio_format=flac     # Format of the audio in dumpdir: flac, wav, or archives (flac.ark, wav.ark).
skip_bad=false        # Drop unreadable audio instead of stopping.

# Probe
upstream=             # Directory or hub name of the encoder.
superb_task=          # PR, ASR, KS, QbE, SID, ASV, SD, IC, SF, ER, or a name of your own.
espnet_task=          # asr, cls, spk, diar; qbe: no training.
config=               # Config of the probe's training.
probe_args=           # Options that override it, e.g. "--max_epoch 2".
probe_tag=            # Names the experiment; from config and arguments when empty.
debug_args="--max_epoch 1 --num_iters_per_epoch 2 --batch_size 4 --num_workers 0 --optim_conf lr=1.0e-3 --log_interval 1 --encoder_conf project_size=8" # Options of the training in a debug run; --probe_args come after them.
feature_cache=false   # Keep the encoder's hidden states on disk. From the second epoch on that is
                      # faster where reading them takes less time than the encoder does, mostly on
                      # CPUs: stage 5 measures both, tells how much disk they need, and stops when
                      # that is not free. Not with random crops.
learning_rates=       # Sweep, e.g. "1e-1 1e-2 1e-3": the best on the valid set; the config's when empty.
# shellcheck disable=SC2034
token_type=char       # Units of the transcripts (asr only): char, word or bpe (SentencePiece).
nbpe=500              # Number of them for bpe.
label_slots=false     # Labels are several slots joined by + (cls only).
inference_config=     # Config of the inference.
inference_args=       # Options that override it, e.g. "--ngpu 1".
inference_model=      # Weights to test; the best on the valid set when empty.
# End of options

# shellcheck disable=SC2034
stages="1 data, 2 formatting, 3 upstream, 4 tokens or labels, 5 lengths, 6 training, 7 inference,
  8 scoring, 9 results."
parse_options "$@"

required="test_sets upstream superb_task espnet_task"
if [ "${espnet_task}" != qbe ]; then required+=" train_set valid_set config"; fi
for name in ${required}; do
    if [ -z "${!name}" ]; then option_error "--${name} is required"; fi
done
case "${espnet_task}" in
    asr | cls | spk | diar) ;;
    qbe) skip_stages+=" 4 5 6" ;;
    *) option_error "--espnet_task is '${espnet_task}', choose asr, cls, spk, diar or qbe" ;;
esac
if [ "${espnet_task}" != qbe ] && [ ! -f "${config}" ]; then
    option_error "--config ${config}: no such file"
fi
rates=() tests=() probe_words=() inference_words=() data_words=() fold_words=()
words rates "${learning_rates}"
words tests "${test_sets}"
words inference_words "${inference_args}"
for rate in "${rates[@]}"; do
    if ! LC_ALL=C printf %e "${rate}" > /dev/null 2>&1; then
        option_error "--learning_rates has '${rate}', which is no number"
    fi
done

# shellcheck source=../common/path.sh
. template/common/path.sh
# shellcheck source=../common/cmd.sh
. template/common/cmd.sh
# shellcheck source=../common/stages.sh
. template/common/stages.sh

if "${debug}"; then
    unless_given dumpdir dump_debug
    unless_given expdir exp_debug
    unless_given nj 1
    unless_given inference_nj 1
fi
if "${skip_data_prep}"; then skip_stages+=" 1 2 4"; fi
if "${skip_train}"; then skip_stages+=" 5 6"; fi
if "${skip_eval}"; then skip_stages+=" 7 8 9"; fi

if [ -z "${probe_tag}" ]; then
    probe_tag=$(basename "${config%.yaml}")$(tag_of "${probe_args}")
    if [ "${espnet_task}" = asr ]; then probe_tag+=$(units_tag); fi
    if [ "${seed}" != 0 ]; then probe_tag+="_seed${seed}"; fi
fi
debug_words=()
if "${debug}"; then words debug_words "${debug_args}"; fi
words probe_words "${probe_args}"
upstream_tag=$(printf '%s\n' "${upstream}" | sed -e 's/[/ ]/_/g' -e 's/^[_.]*//')
upstream_dir=${expdir}/upstream_${upstream_tag}
if [ -z "${results_dir}" ]; then
    results_dir=${expdir}/superb_${upstream_tag}
    if [ "${seed}" != 0 ]; then results_dir+="_seed${seed}"; fi
fi
inference_tag=inference
if [ -n "${inference_config}" ]; then inference_tag=$(basename "${inference_config%.yaml}"); fi
inference_tag+=$(tag_of "${inference_args}")
exp=${expdir}/superb_${superb_task}_${probe_tag:-none}_${upstream_tag}
plugin="${python} -m espnet_prune.plugin.run"
fs=16k # of all encoders
cache_dir=
if "${feature_cache}"; then
    cache_dir=${expdir}/feature_cache
    if [ "${espnet_task}" != qbe ]; then
        ${python} -m espnet_prune superb cacheable --config "${config}"
    fi
fi
words fold_words "${folds}"
if [ "${#fold_words[@]}" -eq 0 ]; then fold_words=(""); fi

# set_of NAME FOLD: formatted data directory of a set.
set_of() { echo "${dumpdir}/raw/$1${2:+_fold$2}"; }

# use_fold FOLD ("": there are none): sets what the functions of a task work with.
#   train, valid   formatted data directories
#   lists          directory for token lists and the like (stage 4)
#   probe          directory of the trainings; ${probe}/best is the one that is tested
# shellcheck disable=SC2034
use_fold() {
    train=$(set_of "${train_set}" "$1")
    valid=$(set_of "${valid_set}" "$1")
    lists=${expdir}/superb_${superb_task}_lists$(units_tag)${1:+/fold$1}
    probe=${exp}${1:+/fold$1}
}

# tested FOLD: directory of the training that is tested, or without training of the experiment.
tested() {
    local dir=${exp}${1:+/fold$1}
    echo "${dir}$(if [ -L "${dir}/best" ]; then echo "/$(readlink "${dir}/best")"; fi)"
}

# output_of SET FOLD: directory of the inference on a set. It lies with the training, so that no
# other one's predictions are scored as those of this one.
output_of() { echo "$(tested "$2")/${inference_tag}/$1"; }

# What differs between ESPnet's tasks. Each file sets
#   train_module, inference_module   of espnet2.bin
#   criterion                        <name>.<min or max> on the valid set, as in the config
# and has the functions
#   task_lists                       stage 4, after use_fold: files in ${lists}
#   task_data                        after use_fold: options of the training into the array data
#   task_inference DATA_DIR OUT      stage 7, after use_fold
#   task_score SET OUTPUT_DIR        stage 8: OUTPUT_DIR/scores.json from all folds
# shellcheck source=superb_tasks/cls.sh
. "template/superb1/superb_tasks/${espnet_task}.sh"
inference_model=${inference_model:-valid.${criterion%.*}.best.pth}

if wanted 6 || wanted 7 || wanted 8; then hold "${exp}"; fi
if wanted 1 || wanted 2 || wanted 4; then
    hold --wait "${datadir}"
    hold --wait "${dumpdir}"
fi

if wanted 1; then
    log "Stage 1: Data preparation"
    words data_words "${local_data_opts}"
    local/data.sh --datadir "${datadir}" --download_dir "${download_dir}" "${data_words[@]}"
fi

if [ "${fold_words[0]}" = all ]; then
    fold_words=()
    for dir in "${datadir}/${tests[0]}"_fold*/; do
        dir=${dir%/}
        fold_words+=("${dir##*_fold}")
    done
    if [ "${fold_words[0]}" = "*" ]; then
        log "error: no ${datadir}/${tests[0]}_fold*; run stage 1 first"
        exit 1
    fi
fi

# format NAME: the audio of ${datadir}/NAME.
format() {
    ${python} -m espnet_prune data format --fs "${fs}" --audio_format "${audio_format}" \
        --skip_bad "${skip_bad}" --nj "${nj}" "${datadir}/$1" "${dumpdir}/raw/$1"
}

if wanted 2; then
    log "Stage 2: Formatting audio to ${dumpdir}/raw"
    sets=(${train_set:+"${train_set}"} ${valid_set:+"${valid_set}"} "${tests[@]}")
    if [ -z "${fold_words[0]}" ]; then
        for dset in "${sets[@]}"; do format "${dset}"; done
    else
        # The sets of a fold are the corpus: its audio is formatted once, and shared out after.
        whole=("${sets[@]/#/${datadir}/}")
        ${python} -m espnet_prune data combine "${datadir}/all" "${whole[@]/%/_fold${fold_words[0]}}"
        format all
        for fold in "${fold_words[@]}"; do
            for dset in "${sets[@]/%/_fold${fold}}"; do
                ${python} -m espnet_prune data subset --utt_list "${datadir}/${dset}/wav.scp" \
                    "${dumpdir}/raw/all" "${dumpdir}/raw/${dset}"
            done
        done
    fi
fi

if wanted 3; then
    log "Stage 3: Upstream ${upstream}"
    ${python} -m espnet_prune hub fetch --model "${upstream}" --output_dir "${upstream_dir}"
fi

if wanted 4; then
    log "Stage 4: Tokens or labels"
    for fold in "${fold_words[@]}"; do
        use_fold "${fold}"
        mkdir -p "${lists}"
        task_lists
    done
fi

if wanted 5; then
    log "Stage 5: Lengths of the utterances, and whether ${upstream} takes them"
    trains=()
    others=()
    for fold in "${fold_words[@]}"; do
        use_fold "${fold}"
        trains+=("${train}")
        others+=("${valid}")
        for dset in "${tests[@]}"; do others+=("$(set_of "${dset}" "${fold}")"); done
    done
    ${python} -m espnet_prune superb lengths --upstream "${upstream_dir}" \
        --config "${config}" --train "${trains[@]}" --others "${others[@]}" \
        ${cache_dir:+--cache "${cache_dir}" --device "$([ "${ngpu}" -gt 0 ] && echo cuda || echo cpu)"}
fi

for dir in "${!held[@]}"; do
    if [ "${dir}" != "${exp}" ]; then release "${dir}"; fi
done

# train_probe DIR [OPTION...]: after use_fold.
train_probe() {
    local dir=$1
    shift
    data=()
    task_data
    fresh "${dir}" "${upstream_dir}" "${config}" "${train}/wav.scp" "${valid}/wav.scp" \
        "${data[@]}" "$@" "${seed} ${debug_words[*]} ${probe_words[*]}"
    # shellcheck disable=SC2086
    launch "${dir}" ${plugin} -m "${train_module}" --config "${config}" "${debug_words[@]}" \
        --frontend_conf model="${upstream_dir}" --frontend_conf fs="${fs}" \
        ${cache_dir:+--frontend_conf cache="${cache_dir}"} \
        --resume true --seed "${seed}" --ngpu "${ngpu}" \
        --train_data_path_and_name_and_type "${train}/wav.scp,speech,${speech_type}" \
        --valid_data_path_and_name_and_type "${valid}/wav.scp,speech,${speech_type}" \
        --train_shape_file "${train}/utt2num_samples" --valid_shape_file "${valid}/utt2num_samples" \
        "${data[@]}" --output_dir "${dir}" "$@" "${probe_words[@]}"
}

if wanted 6; then
    log "Stage 6: Training: ${exp}"
    for fold in "${fold_words[@]}"; do
        use_fold "${fold}"
        if [ "${#rates[@]}" -eq 0 ]; then
            train_probe "${probe}/train"
            ln -sfn train "${probe}/best"
            continue
        fi
        trained=()
        for rate in "${rates[@]}"; do
            # YAML reads 1.0e-1 as a number, but 1e-1 as text.
            train_probe "${probe}/lr_${rate}" --optim_conf lr="$(LC_ALL=C printf %e "${rate}")"
            trained+=("${probe}/lr_${rate}")
        done
        ${python} -m espnet_prune superb choose "${trained[@]}" --criterion "${criterion}" \
            --link "${probe}/best"
    done
fi

if wanted 7; then
    log "Stage 7: Inference: ${tests[*]}"
    for fold in "${fold_words[@]}"; do
        use_fold "${fold}"
        for dset in "${tests[@]}"; do
            task_inference "$(set_of "${dset}" "${fold}")" "$(output_of "${dset}" "${fold}")"
        done
    done
fi

if wanted 8; then
    log "Stage 8: Scoring"
    for dset in "${tests[@]}"; do
        name=${superb_task}
        if [ "${dset}" != "${tests[0]}" ]; then name+=_${dset}; fi
        log "${dset}: ${results_dir}/${name}/scores.json"
        task_score "${dset}" "${results_dir}/${name}"
        for fold in "${fold_words[@]}"; do tested "${fold}"; done > "${results_dir}/${name}/tested"
    done
fi

if wanted 9; then
    log "Stage 9: Results: ${results_dir}/RESULTS.md"
    ${python} -m espnet_prune superb results --results_dir "${results_dir}" \
        --upstream "${upstream_dir}" --task "${superb_task}" --seed "${seed}" \
        --command "${command_line}"
fi

log "Done."
