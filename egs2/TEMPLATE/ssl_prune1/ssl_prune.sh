#!/usr/bin/env bash
# Structured pruning of a pretrained speech encoder, and what it is worth downstream.
# Each recipe calls this with its data and configs; see --help.
set -e
set -u
set -o pipefail

# shellcheck source=stages.sh
. ./stages.sh

# General
stage=1             # First stage to run.
stop_stage=10000    # Last stage to run.
skip_stages=        # Stages to leave out, e.g. "3 9".
skip_train=false    # Leave out all training (stages 4 to 9).
skip_eval=false     # Leave out decoding, scoring and the results (stages 10 to 12).
skip_upload=true    # Leave out stage 13.
ngpu=0              # Number of GPUs (0: CPU).
num_nodes=1         # Number of nodes.
nj=2                # Parallel jobs in data preparation.
inference_nj=2      # Parallel jobs in decoding.
python=python3      # Command that starts Python.
seed=0              # Of gates, batches and models.
dumpdir=dump        # Formatted audio.
expdir=exp          # Everything that is computed.

# Data
local_data_opts=    # Options for local/data.sh.
train_set=          # Audio to prune and distil on.
valid_set=          # Held-out audio for the distillation loss.
fs=16k              # Sampling rate.
audio_format=flac   # Format of the audio in dumpdir.
pack_window=        # Seconds: pack utterances into windows up to this long ("": do not).
pack_min_fill=30    # Seconds: how little of a window may be filled with speech.
skip_bad=false      # Drop unreadable audio instead of stopping.

# Pruning
teacher=            # Hub name or directory of the dense model.
method=l0           # l0; baselines without stage 5: random (structured pruning), scratch.
like=               # The pruned encoder whose sizes a student from scratch gets (method scratch).
prune_config=       # Config of prune-and-distil.
prune_args=         # Options that override it, e.g. "--pruning_conf target=0.7".
prune_tag=          # Names the experiment; from config, target and arguments when empty.
teacher_cache=false # Keep the teacher's hidden states on disk (small corpora: Whisper tiny 0.2 MB/s).
target=0.5          # Share of the encoder's parameters (or pruning_conf.cost) to remove; not for
                    # scratch, whose share is that of --like.
latency_args=       # With cost latency: options of espnet_prune.bin.latency_table, e.g. "--threads 1".
distill_config=     # Config of the second distillation.
distill_args=       # Options that override it.

# Downstream: CTC ASR with the frozen encoder as ESPnet frontend
asr_train_set=      # "": no downstream task.
asr_valid_set=      # Its held-out set.
test_sets=          # One or more.
asr_config=         # Config of stock espnet2.bin.asr_train, without `model`.
asr_args=           # Options that override it.
inference_config=   # Config of stock espnet2.bin.asr_inference.
inference_args=     # Options that override it.
inference_asr_model=valid.loss.ave.pth # Weights that are decoded with.
whisper_decode=true # Put the encoder back in front of Whisper's own decoder.

hf_repo=            # Name of the repository for stage 13.

# shellcheck disable=SC2034
help_message="Usage: $0 [--option value]...
$(sed -n '/^# General/,/^help_message=/p' "${BASH_SOURCE[0]}" | grep -v '^# shellcheck\|^help_' | sed 's/^\([a-z_]*\)=\([^ ]*\) *# /  --\1 [\2]  /')

Stages: 1 data, 2 formatting, 3 teacher, 4 statistics, 5 prune-and-distil, 6 slim, 7 distil again,
  8 export, 9 downstream training, 10 decoding, 11 scoring, 12 results, 13 upload."

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

for name in train_set valid_set teacher prune_config distill_config; do
    if [ -z "${!name}" ]; then
        echo "$0: error: --${name} is required" >&2
        exit 2
    fi
done
case "${method}" in
    l0 | random | scratch) ;;
    *)
        echo "$0: error: --method is '${method}', choose l0, random or scratch" >&2
        exit 2
        ;;
esac
if [ "${method}" = scratch ] && [ -z "${like}" ]; then
    echo "$0: error: --method scratch needs --like, the directory of a pruned encoder" >&2
    exit 2
fi
if [ "${method}" = scratch ]; then
    target=$(${python} -m espnet_prune.recipe removed_share "${like}")
fi
# shellcheck disable=SC2086
${python} -c "import sys; sys.exit(not 0 <= float(sys.argv[1]) < 1)" "${target}" 2> /dev/null || {
    echo "$0: error: --target is '${target}', but has to be in [0, 1)" >&2
    exit 2
}

if "${skip_train}"; then skip_stages+=" 4 5 6 7 8 9"; fi
if "${skip_eval}"; then skip_stages+=" 10 11 12"; fi
if "${skip_upload}" || [ -z "${hf_repo}" ]; then skip_stages+=" 13"; fi
if [ "${method}" != l0 ]; then skip_stages+=" 5"; fi
if [ -z "${asr_train_set}" ]; then skip_stages+=" 9"; fi

# Whether stage $1 is to be run.
wanted() {
    [ "${stage}" -le "$1" ] && [ "${stop_stage}" -ge "$1" ] && ! [[ " ${skip_stages} " =~ [[:space:]]$1[[:space:]] ]]
}

name_of() { basename "${1%.yaml}"; }
if [ -z "${prune_tag}" ]; then
    prune_tag="$(name_of "${prune_config}")_${method}_${target}"
    if [ -n "${prune_args}${distill_args}" ]; then
        prune_tag+=$(echo "${prune_args}${distill_args}" | sed -e 's/--/\_/g' -e 's/[ |=/]//g')
    fi
    if [ "${seed}" != 0 ]; then prune_tag+="_seed${seed}"; fi
fi
raw=${dumpdir}/raw
teacher_dir=${expdir}/teacher_$(echo "${teacher}" | sed -e 's/[/ ]/_/g' -e 's/^[_.]*//')
stats_dir=${expdir}/ssl_prune_stats_$(name_of "${prune_config}")
exp=${expdir}/ssl_prune_${prune_tag}
asr_tag=
if [ -n "${asr_config}" ]; then asr_tag=$(name_of "${asr_config}"); fi
inference_tag=decode
if [ -n "${inference_config}" ]; then inference_tag=$(name_of "${inference_config}"); fi
dense_asr=${expdir}/asr_${asr_tag}_dense_$(basename "${teacher_dir}")
asr_stats=${expdir}/asr_stats_${asr_tag}
token_list=${expdir}/token_list/char/tokens.txt
ssl_train=${raw}/${train_set}${pack_window:+_packed}
ssl_valid=${raw}/${valid_set}${pack_window:+_packed}
plugin="${python} -m espnet_prune.plugin.run"

# The table for cost latency is made in stage 3, unless the config names one (of another machine).
latency_table=
latency_opts=()
if grep -q '^[^#]*cost[:=] *latency' <(cat "${prune_config}"; echo "${prune_args}") &&
    ! grep -q '^[^#]*latency_table[:=]' <(cat "${prune_config}"; echo "${prune_args}"); then
    latency_table=${expdir}/latency_$(basename "${teacher_dir}")/table.json
    latency_opts=(--pruning_conf latency_table="${latency_table}")
fi
# What is pruned, and how: for all stages alike. The last words win.
# shellcheck disable=SC2206
pruning=(--config "${prune_config}" --pruning_conf target="${target}" "${latency_opts[@]}" ${prune_args})

# Training data of the task ssl_prune.
# shellcheck disable=SC2054
ssl_data=(
    --train_data_path_and_name_and_type "${ssl_train}/wav.scp,speech,sound"
    --valid_data_path_and_name_and_type "${ssl_valid}/wav.scp,speech,sound"
)

if wanted 1; then
    log "Stage 1: Data preparation"
    # shellcheck disable=SC2086
    local/data.sh ${local_data_opts}
fi

if [ -n "${asr_train_set}" ] && [ -d "data/${train_set}" ] && [ ! -f "data/${asr_train_set}/text" ]; then
    log "data/${asr_train_set} has no transcripts: there will be no downstream task"
    asr_train_set=
    asr_valid_set=
    test_sets=
    skip_stages+=" 9 10 11"
fi

if wanted 2; then
    log "Stage 2: Formatting audio to ${raw}"
    # shellcheck disable=SC2086
    for dset in "${train_set}" "${valid_set}" ${asr_train_set} ${asr_valid_set} ${test_sets}; do
        ${python} -m espnet_prune.recipe format_wav --fs "${fs}" --audio_format "${audio_format}" \
            --skip_bad "${skip_bad}" --nj "${nj}" "data/${dset}" "${raw}/${dset}"
    done
    if [ -n "${pack_window}" ]; then
        for dset in "${train_set}" "${valid_set}"; do
            ${python} -m espnet_prune.recipe pack --window "${pack_window}" \
                --min_fill "${pack_min_fill}" --nj "${nj}" "${raw}/${dset}" "${raw}/${dset}_packed"
        done
    fi
fi

if wanted 3; then
    log "Stage 3: Teacher ${teacher}"
    ${python} -m espnet_prune.hub.pretrained --model "${teacher}" --output_dir "${teacher_dir}"
    if [ -n "${latency_table}" ]; then
        fresh "$(dirname "${latency_table}")" "${teacher_dir}/config.json" "${latency_args}"
        # shellcheck disable=SC2086
        [ -f "${latency_table}" ] || ${python} -m espnet_prune.bin.latency_table \
            --model "${teacher_dir}" --output "${latency_table}" ${latency_args}
    fi
fi

if [ -f "${teacher_dir}/config.json" ] && ! grep -q '"model_type": *"whisper"' "${teacher_dir}/config.json"; then
    whisper_decode=false
fi

if wanted 4; then
    log "Stage 4: Lengths of the training data: ${stats_dir}"
    mkdir -p "${stats_dir}/logdir"
    for part in train valid; do
        dset=ssl_${part}
        ${python} -m espnet_prune.recipe split "${!dset}/wav.scp" "${nj}" \
            "${stats_dir}/logdir/${part}.JOB.scp"
    done
    # shellcheck disable=SC2086
    ${train_cmd} JOB=1:"${nj}" "${stats_dir}/logdir/stats.JOB.log" \
        ${python} -m espnet_prune.bin.ssl_prune_train --collect_stats true \
        --teacher "${teacher_dir}" "${ssl_data[@]}" "${pruning[@]}" \
        --train_shape_file "${stats_dir}/logdir/train.JOB.scp" \
        --valid_shape_file "${stats_dir}/logdir/valid.JOB.scp" \
        --model_conf extract_feats_in_collect_stats=false \
        --output_dir "${stats_dir}/logdir/stats.JOB"
    parts=()
    for n in $(seq "${nj}"); do parts+=(--input_dir "${stats_dir}/logdir/stats.${n}"); done
    ${python} -m espnet2.bin.aggregate_stats_dirs --skip_sum_stats "${parts[@]}" \
        --output_dir "${stats_dir}"
fi

ssl_data+=(
    --train_shape_file "${stats_dir}/train/speech_shape"
    --valid_shape_file "${stats_dir}/valid/speech_shape"
)

if [ "${ngpu}" -gt 1 ] || [ "${num_nodes}" -gt 1 ]; then
    # Of a sub-layer that has lost all its heads only the output bias is used.
    ssl_data+=(--unused_parameters true)
fi

if "${teacher_cache}"; then
    ssl_data+=(--model_conf teacher_cache="${expdir}/teacher_cache")
fi

if wanted 5; then
    log "Stage 5: Prune and distil: ${exp}/prune"
    fresh "${exp}/prune" "${teacher_dir}/model.safetensors" "${prune_config}" "${ssl_train}/wav.scp" \
        "${target} ${seed} ${prune_args}" ${latency_table:+"${latency_table}"}
    launch "${exp}/prune" ${python} -m espnet_prune.bin.ssl_prune_train \
        --teacher "${teacher_dir}" --resume true --seed "${seed}" --ngpu "${ngpu}" \
        "${ssl_data[@]}" --output_dir "${exp}/prune" "${pruning[@]}"
fi

if wanted 6; then
    log "Stage 6: Slim: ${exp}/slim"
    if [ "${method}" = random ]; then
        ${python} -m espnet_prune.bin.ssl_prune_random --teacher "${teacher_dir}" \
            --seed "${seed}" --output_dir "${exp}/slim" -- "${pruning[@]}"
    elif [ "${method}" = scratch ]; then
        ${python} -m espnet_prune.bin.ssl_prune_scratch --like "${like}" --seed "${seed}" \
            --output_dir "${exp}/slim"
    else
        ${python} -m espnet_prune.bin.ssl_prune_export --train_dir "${exp}/prune" \
            --output_dir "${exp}/slim" --all_targets true
    fi
fi

if wanted 7; then
    log "Stage 7: Distil the slimmed model: ${exp}/distill"
    fresh "${exp}/distill" "${exp}/slim/model.safetensors" "${distill_config}" "${distill_args}"
    # shellcheck disable=SC2086
    launch "${exp}/distill" ${python} -m espnet_prune.bin.ssl_prune_train \
        --config "${distill_config}" --teacher "${teacher_dir}" --student "${exp}/slim" \
        --resume true --seed "${seed}" --ngpu "${ngpu}" "${ssl_data[@]}" \
        --output_dir "${exp}/distill" ${distill_args}
fi

if wanted 8; then
    log "Stage 8: Export: ${exp}/pruned"
    ${python} -m espnet_prune.bin.ssl_prune_export --train_dir "${exp}/distill" \
        --output_dir "${exp}/pruned"
fi

# The data of ASR, and the files of their lengths.
asr_data=()
asr_keys=()
asr_shapes=()
for part in train valid; do
    dset=asr_${part}_set
    asr_data+=(
        "--${part}_data_path_and_name_and_type" "${raw}/${!dset}/wav.scp,speech,sound"
        "--${part}_data_path_and_name_and_type" "${raw}/${!dset}/text,text,text"
    )
    asr_keys+=("--${part}_shape_file" "${raw}/${!dset}/wav.scp")
    asr_shapes+=(
        "--${part}_shape_file" "${asr_stats}/${part}/speech_shape"
        "--${part}_shape_file" "${asr_stats}/${part}/text_shape"
    )
done
asr_data+=(--token_type char --token_list "${token_list}" --use_preprocessor true)

asr_statistics() {
    fresh "${asr_stats}" "${raw}/${asr_train_set}/text" "${raw}/${asr_valid_set}/text"
    if [ -f "${asr_stats}/.done" ]; then return; fi
    # One process: on several GPUs each would write the same files
    # shellcheck disable=SC2086
    ngpu=0 num_nodes=1 launch "${asr_stats}" ${plugin} -m espnet2.bin.asr_train \
        --config "${asr_config}" --collect_stats true \
        --model_conf extract_feats_in_collect_stats=false \
        "${asr_data[@]}" "${asr_keys[@]}" --output_dir "${asr_stats}"
    touch "${asr_stats}/.done"
}

# asr DIR MODEL: train stock ESPnet ASR on top of a frozen encoder.
asr() {
    fresh "$1" "$2/model.safetensors" "${asr_config}" "${seed} ${asr_args}"
    # shellcheck disable=SC2086
    launch "$1" ${plugin} -m espnet2.bin.asr_train --config "${asr_config}" \
        --frontend_conf model="$2" --frontend_conf fs="${fs}" --resume true --seed "${seed}" \
        --ngpu "${ngpu}" "${asr_data[@]}" "${asr_shapes[@]}" --output_dir "$1" ${asr_args}
}

# systems DSET: what is decoded there, a line each: title|directory of the pruned|of the dense one.
systems() {
    if [ -n "${asr_train_set}" ]; then
        echo "CTC ASR on the frozen encoder|${exp}/asr_${asr_tag}/${inference_tag}/$1|${dense_asr}/${inference_tag}/$1"
    fi
    if "${whisper_decode}"; then
        echo "Whisper's own decoder|${exp}/whisper/$1|${expdir}/whisper_dense/$1"
    fi
}

# both COMMAND "ARGS of the dense" "ARGS of the pruned": side by side, each with half of the cores;
# one after the other where they would share GPUs.
both() {
    local jobs=() status=0 job words
    if [ "${ngpu}" -gt 0 ]; then
        # shellcheck disable=SC2086
        "$1" $2
        # shellcheck disable=SC2086
        "$1" $3
        return
    fi
    for words in "$2" "$3"; do
        # shellcheck disable=SC2030,SC2031,SC2086
        (
            export OMP_NUM_THREADS=$(((${OMP_NUM_THREADS:-$(nproc)} + 1) / 2))
            "$1" ${words}
        ) &
        jobs+=($!)
    done
    for job in "${jobs[@]}"; do wait "${job}" || status=1; done
    return "${status}"
}

if wanted 9; then
    log "Stage 9: ASR with the dense and with the pruned encoder as frontend"
    mkdir -p "$(dirname "${token_list}")"
    ${plugin} -m espnet2.bin.tokenize_text --token_type char --input "${raw}/${asr_train_set}/text" \
        --output "${token_list}" --field 2- --write_vocabulary true \
        --add_symbol "<blank>:0" --add_symbol "<unk>:1" --add_symbol "<sos/eos>:-1"
    asr_statistics
    both asr "${dense_asr} ${teacher_dir}" "${exp}/asr_${asr_tag} ${exp}/pruned"
fi

# decode_asr DIR: the model of `asr` in DIR on all test sets.
decode_asr() {
    local dset out
    for dset in ${test_sets}; do
        out=$1/${inference_tag}/${dset}
        if [ "${out}/text" -nt "$1/${inference_asr_model}" ]; then continue; fi
        mkdir -p "${out}/logdir"
        ${python} -m espnet_prune.recipe split "${raw}/${dset}/wav.scp" "${inference_nj}" \
            "${out}/logdir/keys.JOB.scp"
        # shellcheck disable=SC2086
        ${decode_cmd} JOB=1:"${inference_nj}" "${out}/logdir/asr_inference.JOB.log" \
            env OMP_NUM_THREADS=1 ${plugin} -m espnet2.bin.asr_inference \
            ${inference_config:+--config "${inference_config}"} --ngpu 0 \
            --data_path_and_name_and_type "${raw}/${dset}/wav.scp,speech,sound" \
            --key_file "${out}/logdir/keys.JOB.scp" --asr_train_config "$1/config.yaml" \
            --asr_model_file "$1/${inference_asr_model}" \
            --output_dir "${out}/logdir/output.JOB" ${inference_args}
        cat "${out}"/logdir/output.*/1best_recog/text | LC_ALL=C sort > "${out}/text.tmp"
        mv "${out}/text.tmp" "${out}/text"
    done
}

# decode_whisper DIR [OPTION...]: Whisper's decoder on all test sets.
decode_whisper() {
    local dset dir=$1
    shift
    for dset in ${test_sets}; do
        ${python} -m espnet_prune.bin.whisper_decode --teacher_dir "${teacher_dir}" \
            --data_dir "${raw}/${dset}" --output_dir "${dir}/${dset}" "$@"
    done
}

if wanted 10; then
    log "Stage 10: Decoding of ${test_sets}"
    if [ -n "${asr_train_set}" ]; then
        both decode_asr "${dense_asr}" "${exp}/asr_${asr_tag}"
    fi
    if "${whisper_decode}"; then
        both decode_whisper "${expdir}/whisper_dense" "${exp}/whisper --encoder ${exp}/pruned"
    fi
fi

if wanted 11; then
    log "Stage 11: Scoring (the second system is the dense one)"
    for dset in ${test_sets}; do
        while IFS='|' read -r title dir dense_dir; do
            log "${title}, ${dset}"
            ${python} -m espnet_prune.bin.score_text --ref "${raw}/${dset}/text" \
                --hyp "${dir}/text" --hyp2 "${dense_dir}/text" --output_dir "${dir}"
        done < <(systems "${dset}")
    done
fi

if wanted 12; then
    log "Stage 12: Results: ${exp}/RESULTS.md"
    scores=()
    for dset in ${test_sets}; do
        while IFS='|' read -r title dir _; do
            scores+=(--score "${title}, ${dset}" "${dir}/scores.json")
        done < <(systems "${dset}")
    done
    ${python} -m espnet_prune.bin.ssl_prune_results --dense "${teacher_dir}" --exp "${exp}" \
        --command "${command_line}" "${scores[@]}"
fi

if wanted 13; then
    log "Stage 13: Upload ${exp}/pruned to ${hf_repo}"
    hf upload "${hf_repo}" "${exp}/pruned" .
fi

log "Done."
