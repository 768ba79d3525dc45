#!/usr/bin/env bash
# Structured pruning of a pretrained speech encoder, and what it is worth downstream.
# Each recipe calls this with its data and configs; see --help.
set -e
set -u
set -o pipefail

# shellcheck source=../common/options.sh
. template/common/options.sh

# Options
# General
stage=1               # First stage to run.
stop_stage=10000      # Last stage to run.
skip_stages=          # Stages to leave out, e.g. "3 8".
skip_data_prep=false  # Leave out data preparation (stages 1 and 2).
skip_train=false      # Leave out all training (stages 4 to 8).
skip_eval=false       # Leave out decoding, scoring and the results (stages 9 to 11).
skip_upload=true      # Leave out stage 13.
debug=false           # A short run of all stages, in dump_debug and exp_debug: the options debug_* of the
                      # trainings come before the other ones, so that those win.
ngpu=0                # Number of GPUs (0: CPU).
num_nodes=1           # Number of nodes.
nj=2                  # Parallel jobs in data preparation.
inference_nj=2        # Parallel jobs in decoding.
python=python3        # Command that starts Python.
seed=0                # Seed of gates, batches and models.
datadir=data          # Data directories.
download_dir=downloads # What stage 1 downloads.
dumpdir=dump          # Formatted audio.
expdir=exp            # Everything that is computed.

# Data
local_data_opts=      # Options for local/data.sh.
train_set=            # Audio to prune and distil on.
valid_set=            # Held-out audio for the distillation loss.
fs=16k                # Sampling rate.
audio_format=flac     # Format of the audio in dumpdir: flac, wav, or archives (flac.ark, wav.ark).
pack_window=          # (number) Seconds: pack utterances into windows up to this long; do not when empty.
pack_min_fill=30.0    # Seconds: minimum speech in a window.
skip_bad=false        # Drop unreadable audio instead of stopping.
data_tag=             # Goes into the names of configs and experiments, e.g. 960h.

# Pruning
teacher=              # Hub name or directory of the dense model.
method=l0             # l0; without stage 4: one_shot; baselines: random (structured pruning), scratch.
like=                 # The pruned encoder whose sizes a student from scratch gets (method scratch).
prune_config=         # Config of prune-and-distil. Here and in the other configs SIZE stands for base or
                      # large, the size of the teacher.
prune_args=           # Options that override it, e.g. "--pruning_conf target=0.7".
prune_tag=            # Names the experiment; from config, target and arguments when empty.
teacher_cache=false   # Keep the teacher's hidden states on disk (small corpora: Whisper tiny 0.2 MB/s).
target=0.5            # Share of the encoder's parameters (or pruning_conf.cost) to remove; not for
                      # scratch, whose share is that of --like.
latency_args=         # With cost latency: options of `espnet-prune encoder latency`, e.g. "--threads 1".
distill_config=       # Config of the second distillation.
distill_args=         # Options that override it.
decoder_loss=false    # Whisper: distil through its decoder, too, on the teacher's own transcripts.
spread_updates=false  # Write configs in which an update sees the same audio on any number of GPUs.
accum_grad=           # (whole number) Forward passes of such an update; the config's divided among the
                      # GPUs when empty.
debug_prune_args=     # Options of prune-and-distil in a debug run.
debug_distill_args=   # Options of the second distillation in a debug run.

# Downstream: CTC ASR with the frozen encoder as ESPnet frontend
asr_train_set=        # Transcribed training data; no downstream task when empty.
asr_valid_set=        # Its held-out set.
test_sets=            # One or more.
asr_config=           # Config of stock espnet2.bin.asr_train, without `model`.
asr_args=             # Options that override it.
asr_tag=              # Names the training; from its config when empty.
token_type=char       # Units of the transcripts: char, word or bpe (SentencePiece).
nbpe=500              # Number of them for bpe.
debug_asr_args=       # Options of the training in a debug run.
inference_config=     # Config of stock espnet2.bin.asr_inference.
inference_args=       # Options that override it.
inference_asr_model=valid.loss.ave.pth # Weights that are decoded with.
whisper_decode=true   # Put the encoder back in front of Whisper's own decoder.

hf_repo=              # Repository for the encoder (stage 13); ASR goes to the one that ends with -asr.
license=              # Licence of the models for their cards, as the hub names it, e.g. mit.
# End of options

# shellcheck disable=SC2034
stages="1 data, 2 formatting, 3 teacher, 4 prune-and-distil, 5 slim, 6 distil again, 7 export,
  8 downstream training, 9 decoding, 10 scoring, 11 results and model cards,
  12 packing of ASR, 13 upload."
parse_options "$@"

for name in train_set valid_set teacher prune_config distill_config; do
    if [ -z "${!name}" ]; then option_error "--${name} is required"; fi
done
case "${method}" in
    l0 | one_shot | random | scratch) ;;
    *) option_error "--method is '${method}', choose l0, one_shot, random or scratch" ;;
esac
if [ "${method}" = scratch ] && [ -z "${like}" ]; then
    option_error "--method scratch needs --like, the directory of a pruned encoder"
fi
if [[ $(LC_ALL=C printf %.9f "${target}") != 0.* ]]; then
    option_error "--target is '${target}', but has to be in [0, 1)"
fi
if ! "${skip_upload}" && [ -z "${hf_repo}" ]; then
    option_error "--skip_upload false needs --hf_repo, the name of the repository"
fi
if ! "${skip_upload}" && [ -z "${license}" ]; then
    option_error "--skip_upload false needs --license, which has to be that of the teacher or allowed by it"
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
    unless_given inference_nj 1
fi
if [ "${method}" = scratch ]; then
    target=$(${python} -m espnet_prune encoder removed-share "${like}")
fi

if "${skip_data_prep}"; then skip_stages+=" 1 2"; fi
if "${skip_train}"; then skip_stages+=" 4 5 6 7 8"; fi
if "${skip_eval}"; then skip_stages+=" 9 10 11"; fi
if "${skip_upload}"; then skip_stages+=" 13"; fi
if [ "${method}" != l0 ]; then skip_stages+=" 4"; fi
if [ -z "${asr_train_set}" ]; then skip_stages+=" 8 12"; fi

name_of() { basename "${1%.yaml}"; }

# A config that serves several teachers lends its experiments the name of the teacher.
teacher_name=$(basename "${teacher}" | tr 'A-Z-' 'a-z_' | sed 's/_\(ls960\|ll60k\|lv60\)$//')
prune_name=$(name_of "${prune_config//SIZE/${teacher_name}}")
if [[ "${prune_config} ${distill_config} ${asr_config}" = *SIZE* ]]; then
    size=base
    if ! "${debug}"; then size=$(${python} -m espnet_prune encoder size "${teacher}"); fi
    prune_config=${prune_config//SIZE/${size}}
    distill_config=${distill_config//SIZE/${size}}
    asr_config=${asr_config//SIZE/${size}}
fi
for name in prune_config distill_config asr_config inference_config; do
    if [ -n "${!name}" ] && [ ! -f "${!name}" ]; then option_error "--${name} ${!name}: no such file"; fi
done
prune_name+=${data_tag:+_${data_tag}}
if "${spread_updates}"; then
    spread() {
        ${python} -m espnet_prune encoder spread-updates "$1" "$2" \
            --gpus "$((ngpu > 1 ? ngpu * num_nodes : num_nodes))" \
            ${accum_grad:+--accum_grad "${accum_grad}"}
    }
    spread "${prune_config}" "${expdir}/conf/${prune_name}.yaml"
    prune_config=${expdir}/conf/${prune_name}.yaml
    spread_distill=${expdir}/conf/$(name_of "${distill_config}")${data_tag:+_${data_tag}}.yaml
    spread "${distill_config}" "${spread_distill}"
    distill_config=${spread_distill}
fi

if [ -z "${prune_tag}" ]; then
    prune_tag="${prune_name}_${method}_${target}"
    if [ -n "${prune_args}${distill_args}" ]; then
        prune_tag+=$(printf '%s\n' "${prune_args}${distill_args}" | sed -e 's/--/\_/g' -e 's/[ |=/]//g')
    fi
    if [ "${seed}" != 0 ]; then prune_tag+="_seed${seed}"; fi
fi
if "${debug}"; then
    prune_args="${debug_prune_args} ${prune_args}"
    distill_args="${debug_distill_args} ${distill_args}"
    asr_args="${debug_asr_args} ${asr_args}"
fi
prune_words=() distill_words=() asr_words=() inference_words=() data_words=() latency_words=() tests=()
words prune_words "${prune_args}"
words distill_words "${distill_args}"
words asr_words "${asr_args}"
words inference_words "${inference_args}"
words tests "${test_sets}"

raw=${dumpdir}/raw
teacher_dir=${expdir}/teacher_$(printf '%s\n' "${teacher}" | sed -e 's/[/ ]/_/g' -e 's/^[_.]*//')
exp=${expdir}/ssl_prune_${prune_tag}
if [ -z "${asr_tag}" ] && [ -n "${asr_config}" ]; then asr_tag=$(name_of "${asr_config}")$(units_tag); fi
inference_tag=decode
if [ -n "${inference_config}" ]; then inference_tag=$(name_of "${inference_config}"); fi
asr_dir=${exp}/asr_${asr_tag}
dense_asr=${expdir}/asr_${asr_tag}_dense_$(basename "${teacher_dir}")
units_dir=${expdir}/token_list/${token_type}
if [ "${token_type}" = bpe ]; then units_dir+=_unigram${nbpe}; fi
ssl_train=${raw}/${train_set}${pack_window:+_packed}
ssl_valid=${raw}/${valid_set}${pack_window:+_packed}
plugin="${python} -m espnet_prune.plugin.run"

# The table for cost latency is made in stage 3, unless the config names one (of another machine).
latency_table=
latency_opts=()
if grep -q '^[^#]*cost[:=] *latency' <(cat "${prune_config}"; printf '%s\n' "${prune_args}") &&
    ! grep -q '^[^#]*latency_table[:=]' <(cat "${prune_config}"; printf '%s\n' "${prune_args}"); then
    latency_table=${expdir}/latency_$(basename "${teacher_dir}")/table.json
    latency_opts=(--pruning_conf latency_table="${latency_table}")
fi
# What is pruned, and how: for all stages alike. The last words win.
pruning=(--config "${prune_config}" --pruning_conf target="${target}" "${latency_opts[@]}"
    "${prune_words[@]}")

# Training data of the task ssl_prune, and lengths of the utterances.
# shellcheck disable=SC2054
ssl_data=(
    --train_data_path_and_name_and_type "${ssl_train}/wav.scp,speech,${speech_type}"
    --valid_data_path_and_name_and_type "${ssl_valid}/wav.scp,speech,${speech_type}"
    --train_shape_file "${ssl_train}/utt2num_samples"
    --valid_shape_file "${ssl_valid}/utt2num_samples"
)
ssl_inputs=("${ssl_data[@]}")
if [ "${ngpu}" -gt 1 ] || [ "${num_nodes}" -gt 1 ]; then
    # Of a sub-layer that has lost all its heads only the output bias is used.
    ssl_data+=(--unused_parameters true)
fi
distill_data=()
transcripts=${expdir}/transcripts_$(basename "${teacher_dir}")
if "${decoder_loss}"; then
    distill_data=(
        --train_data_path_and_name_and_type "${transcripts}/$(basename "${ssl_train}")/text,text,text"
        --valid_data_path_and_name_and_type "${transcripts}/$(basename "${ssl_valid}")/text,text,text"
    )
fi
if "${teacher_cache}"; then
    ssl_data+=(--model_conf teacher_cache="${expdir}/teacher_cache")
fi

if [ "${stop_stage}" -ge 4 ]; then hold "${exp}"; fi
if wanted 1 || wanted 2; then
    hold --wait "${datadir}"
    hold --wait "${dumpdir}"
fi

if wanted 1; then
    log "Stage 1: Data preparation"
    words data_words "${local_data_opts}"
    local/data.sh --datadir "${datadir}" --download_dir "${download_dir}" "${data_words[@]}"
fi

if [ -n "${asr_train_set}" ] && [ -d "${datadir}/${train_set}" ] && [ ! -f "${datadir}/${asr_train_set}/text" ]; then
    log "${datadir}/${asr_train_set} has no transcripts: there will be no downstream task"
    asr_train_set=
    asr_valid_set=
    tests=()
    skip_stages+=" 8 9 10 12"
fi

if wanted 2; then
    log "Stage 2: Formatting audio to ${raw}"
    for dset in "${train_set}" "${valid_set}" ${asr_train_set:+"${asr_train_set}"} \
        ${asr_valid_set:+"${asr_valid_set}"} "${tests[@]}"; do
        ${python} -m espnet_prune data format --fs "${fs}" --audio_format "${audio_format}" \
            --skip_bad "${skip_bad}" --nj "${nj}" "${datadir}/${dset}" "${raw}/${dset}"
    done
    if [ -n "${pack_window}" ]; then
        for dset in "${train_set}" "${valid_set}"; do
            ${python} -m espnet_prune data pack --window "${pack_window}" \
                --min_fill "${pack_min_fill}" --nj "${nj}" "${raw}/${dset}" "${raw}/${dset}_packed"
        done
    fi
fi

for dir in "${datadir}" "${dumpdir}"; do
    if [ -n "${held[${dir}]:-}" ]; then release "${dir}"; fi
done

make_latency_table() {
    fresh "$(dirname "${latency_table}")" "${teacher_dir}/config.json" "${latency_args}"
    words latency_words "${latency_args}"
    [ -f "${latency_table}" ] || ${python} -m espnet_prune encoder latency \
        --model "${teacher_dir}" --output "${latency_table}" "${latency_words[@]}"
}

if wanted 3; then
    log "Stage 3: Teacher ${teacher}"
    ${python} -m espnet_prune hub fetch --model "${teacher}" --output_dir "${teacher_dir}"
    if [ -n "${latency_table}" ]; then alone "${expdir}" make_latency_table; fi
fi

if "${decoder_loss}" && wanted 3; then
    for dir in "${ssl_train}" "${ssl_valid}"; do
        alone "${expdir}" ${python} -m espnet_prune.bin.whisper_inference \
            --teacher_dir "${teacher_dir}" --data_dir "${dir}" --output_dir "${transcripts}/$(basename "${dir}")" \
            --full_window false --max_new_tokens 32
    done
fi

if [ -f "${teacher_dir}/config.json" ] && ! grep -q '"model_type": *"whisper"' "${teacher_dir}/config.json"; then
    whisper_decode=false
fi

if wanted 4; then
    log "Stage 4: Prune and distil: ${exp}/prune"
    fresh "${exp}/prune" "${teacher_dir}" "${prune_config}" "${ssl_inputs[@]}" \
        "${target} ${seed} ${prune_args}" ${latency_table:+"${latency_table}"}
    launch "${exp}/prune" ${python} -m espnet_prune.bin.ssl_prune_train \
        --teacher "${teacher_dir}" --resume true --seed "${seed}" --ngpu "${ngpu}" \
        "${ssl_data[@]}" --output_dir "${exp}/prune" "${pruning[@]}"
fi

if wanted 5; then
    log "Stage 5: Slim: ${exp}/slim"
    if [ "${method}" = one_shot ]; then
        ${python} -m espnet_prune encoder one-shot --teacher "${teacher_dir}" \
            --data "${raw}/${train_set}" --seed "${seed}" --output_dir "${exp}/slim" \
            -- "${pruning[@]}"
    elif [ "${method}" = random ]; then
        ${python} -m espnet_prune encoder random --teacher "${teacher_dir}" \
            --seed "${seed}" --output_dir "${exp}/slim" -- "${pruning[@]}"
    elif [ "${method}" = scratch ]; then
        ${python} -m espnet_prune encoder scratch --like "${like}" --seed "${seed}" \
            --output_dir "${exp}/slim"
    else
        ${python} -m espnet_prune encoder slim --train_dir "${exp}/prune" \
            --output_dir "${exp}/slim" --all_targets true
    fi
fi

if wanted 6; then
    log "Stage 6: Distil the slimmed model: ${exp}/distill"
    fresh "${exp}/distill" "${teacher_dir}" "${exp}/slim" "${distill_config}" "${ssl_inputs[@]}" \
        "${seed} ${distill_args}" "${distill_data[@]}"
    launch "${exp}/distill" ${python} -m espnet_prune.bin.ssl_prune_train \
        --config "${distill_config}" --teacher "${teacher_dir}" --student "${exp}/slim" \
        --resume true --seed "${seed}" --ngpu "${ngpu}" "${ssl_data[@]}" "${distill_data[@]}" \
        --output_dir "${exp}/distill" "${distill_words[@]}"
fi

if wanted 7; then
    log "Stage 7: Export: ${exp}/pruned"
    ${python} -m espnet_prune encoder slim --train_dir "${exp}/distill" --output_dir "${exp}/pruned"
fi

# The data of ASR, with the lengths of its utterances.
asr_data=()
for part in train valid; do
    dset=asr_${part}_set
    asr_data+=(
        "--${part}_data_path_and_name_and_type" "${raw}/${!dset}/wav.scp,speech,${speech_type}"
        "--${part}_data_path_and_name_and_type" "${raw}/${!dset}/text,text,text"
        "--${part}_shape_file" "${raw}/${!dset}/utt2num_samples"
    )
done
units_options asr_data "${units_dir}"

# asr DIR MODEL: train stock ESPnet ASR on top of a frozen encoder.
asr() {
    fresh "$1" "$2" "${asr_config}" "${asr_data[@]}" "${units_dir}/tokens.txt" "${seed} ${asr_args}"
    # shellcheck disable=SC2086
    launch "$1" ${plugin} -m espnet2.bin.asr_train --config "${asr_config}" \
        --frontend_conf model="$2" --frontend_conf fs="${fs}" --resume true --seed "${seed}" \
        --ngpu "${ngpu}" "${asr_data[@]}" --output_dir "$1" "${asr_words[@]}"
}

# systems DSET: what is decoded there, in ${titles} with the directories of the pruned in ${dirs} and
# of the dense one in ${dense_dirs}.
systems() {
    titles=() dirs=() dense_dirs=()
    if [ -n "${asr_train_set}" ]; then
        titles+=("CTC ASR on the frozen encoder")
        dirs+=("${asr_dir}/${inference_tag}/$1")
        dense_dirs+=("${dense_asr}/${inference_tag}/$1")
    fi
    if "${whisper_decode}"; then
        titles+=("Whisper's own decoder")
        dirs+=("${exp}/whisper/$1")
        dense_dirs+=("${expdir}/whisper_dense/$1")
    fi
}

# with_half COMMAND...: the command with half of the cores; in the background only.
with_half() {
    export OMP_NUM_THREADS=$(((${OMP_NUM_THREADS:-$(nproc)} + 1) / 2))
    "$@"
}

# both COMMAND DENSE... -- PRUNED...: the command with the arguments of the dense and with those of the
# pruned one, side by side, each with half of the cores; one after the other where they would share
# GPUs. The dense one is of all experiments in ${expdir}.
both() {
    local command=$1 dense=() first second status=0
    shift
    while [ "$1" != -- ]; do
        dense+=("$1")
        shift
    done
    shift
    if [ "${ngpu}" -gt 0 ]; then
        alone "${expdir}" "${command}" "${dense[@]}"
        "${command}" "$@"
        return
    fi
    with_half alone "${expdir}" "${command}" "${dense[@]}" &
    first=$!
    with_half "${command}" "$@" &
    second=$!
    wait "${first}" || status=1
    wait "${second}" || status=1
    return "${status}"
}

if wanted 8; then
    log "Stage 8: ASR with the dense and with the pruned encoder as frontend"
    make_units "${raw}/${asr_train_set}/text" "${units_dir}"
    both asr "${dense_asr}" "${teacher_dir}" -- "${asr_dir}" "${exp}/pruned"
fi

# decode_asr DIR: the model of `asr` in DIR on all test sets.
decode_asr() {
    local dset config=$1/config.yaml model=$1/${inference_asr_model}
    for dset in "${tests[@]}"; do
        infer "${raw}/${dset}" "$1/${inference_tag}/${dset}" 1best_recog/text \
            espnet2.bin.asr_inference "${config}" "${model}" \
            --asr_train_config "${config}" --asr_model_file "${model}"
    done
}

# decode_whisper DIR [OPTION...]: Whisper's decoder on all test sets.
decode_whisper() {
    local dset dir=$1
    shift
    for dset in "${tests[@]}"; do
        ${python} -m espnet_prune.bin.whisper_inference --teacher_dir "${teacher_dir}" \
            --data_dir "${raw}/${dset}" --output_dir "${dir}/${dset}" "$@"
    done
}

if wanted 9; then
    log "Stage 9: Decoding of ${tests[*]}"
    if [ -n "${asr_train_set}" ]; then
        both decode_asr "${dense_asr}" -- "${asr_dir}"
    fi
    if "${whisper_decode}"; then
        both decode_whisper "${expdir}/whisper_dense" -- "${exp}/whisper" --encoder "${exp}/pruned"
    fi
fi

if wanted 10; then
    log "Stage 10: Scoring (the second system is the dense one)"
    for dset in "${tests[@]}"; do
        systems "${dset}"
        for system in "${!titles[@]}"; do
            log "${titles[${system}]}, ${dset}"
            ${python} -m espnet_prune score text --ref "${raw}/${dset}/text" \
                --hyp "${dirs[${system}]}/text" --hyp2 "${dense_dirs[${system}]}/text" \
                --output_dir "${dirs[${system}]}"
        done
    done
fi

if wanted 11; then
    log "Stage 11: Results: ${exp}/RESULTS.md"
    scores=()
    for dset in "${tests[@]}"; do
        systems "${dset}"
        for system in "${!titles[@]}"; do
            scores+=(--score "${titles[${system}]}, ${dset}" "${dirs[${system}]}/scores.json")
        done
    done
    ${python} -m espnet_prune encoder results --dense "${teacher_dir}" --exp "${exp}" \
        ${asr_train_set:+--asr "${asr_dir}"} --base_model "${teacher}" --license_name "${license}" \
        --repo "${hf_repo}" --command "${command_line}" "${scores[@]}"
fi

if wanted 12; then
    log "Stage 12: Packing of ASR: ${asr_dir}/packed.zip"
    pack_opts=()
    if [ "${token_type}" = bpe ]; then pack_opts+=(--option "${units_dir}/bpe.model"); fi
    ${plugin} -m espnet2.bin.pack asr --asr_train_config "${asr_dir}/config.yaml" \
        --asr_model_file "${asr_dir}/${inference_asr_model}" "${pack_opts[@]}" \
        --outpath "${asr_dir}/packed.zip"
fi

if wanted 13; then
    log "Stage 13: Upload of ${exp}/pruned to ${hf_repo}"
    hf upload "${hf_repo}" "${exp}/pruned" .
    if [ -n "${asr_train_set}" ]; then
        log "Upload of ${asr_dir}/packed.zip, unpacked, to ${hf_repo}-asr"
        rm -rf "${asr_dir}/unpacked"
        ${python} -m zipfile -e "${asr_dir}/packed.zip" "${asr_dir}/unpacked"
        cp "${asr_dir}/README.md" "${asr_dir}/unpacked"
        hf upload "${hf_repo}-asr" "${asr_dir}/unpacked" .
    fi
fi

log "Done."
