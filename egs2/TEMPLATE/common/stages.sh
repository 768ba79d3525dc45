# What the stages of all recipes use. Source it first.
# shellcheck shell=bash

# ESPnet takes FILE,name,type for data, and run.pl puts the number of a job in the place of JOB.
for _name in datadir dumpdir expdir; do
    case "${!_name:-}" in
        *,* | *JOB*) option_error "--${_name} '${!_name}': a path without a comma and without JOB is wanted" ;;
    esac
done

# How ESPnet reads what `data format` has written.
speech_type=sound
case "${audio_format:-}" in *.ark) speech_type=kaldi_ark ;; esac

# wanted N: whether stage N is to be run, by ${stage}, ${stop_stage} and ${skip_stages}.
# shellcheck disable=SC2154
wanted() {
    [ "${stage}" -le "$1" ] && [ "${stop_stage}" -ge "$1" ] &&
        ! [[ " ${skip_stages} " =~ [[:space:]]$1[[:space:]] ]]
}

log() {
    local fname=${BASH_SOURCE[1]##*/}
    printf '%s %s\n' "$(date '+%Y-%m-%dT%H:%M:%S')" "(${fname}:${BASH_LINENO[0]}:${FUNCNAME[1]}) $*"
}

# launch DIR MODULE...: one training through ESPnet's launcher, log in DIR/train.log. Reads ${python},
# ${cuda_cmd}, ${ngpu} and ${num_nodes}.
launch() {
    local dir=$1
    shift
    mkdir -p "${dir}"
    # shellcheck disable=SC2086,SC2154
    if ! ${python} -m espnet2.bin.launch --cmd "${cuda_cmd}" \
        --log "${dir}/train.log" --ngpu "${ngpu}" --num_nodes "${num_nodes:-1}" \
        --init_file_prefix "${dir}/.dist_init_" --multiprocessing_distributed true -- "$@"; then
        log "error: training failed, see ${dir}/train.log"
        return 1
    fi
}

# hold [--wait] DIR: keep other recipes out of DIR until this one, with all that it has started, is
# gone. Stops when another one has it, and says which; --wait waits for its end instead.
declare -A held=()
# shellcheck disable=SC2154
hold() {
    local _wait=() _descriptor
    if [ "$1" = --wait ]; then
        _wait=(--wait)
        shift
    fi
    mkdir -p "$1"
    exec {_descriptor}<> "$1/.lock"
    held[$1]=${_descriptor}
    python3 -m espnet_prune.launch.hold "${_wait[@]}" "${_descriptor}" "$1" "${command_line}"
}

# release DIR: let others have what `hold` has kept.
release() {
    local _descriptor=${held[$1]}
    exec {_descriptor}>&-
}

# alone DIR COMMAND...: the command, while no other recipe does something like that in DIR.
alone() (
    hold --wait "$1"
    shift
    "$@"
)

# digest INPUT...: one line that changes with the inputs: files (lists of audio with the audio),
# directories of models, data as FILE,name,type, or words; and with what computes.
digest() { ${python} -m espnet_prune data digest -- "$@"; }

# fresh DIR INPUT...: stop when DIR was made from other inputs, as digest takes them.
fresh() { ${python} -m espnet_prune data fresh -- "$@"; }

# A part of the names of what depends on the units of transcripts; nothing for characters.
# shellcheck disable=SC2154
units_tag() { if [ "${token_type}" = bpe ]; then echo "_bpe${nbpe}"; fi; }

# make_units TEXT DIR: the units of ${token_type} in transcripts, as DIR/tokens.txt; for bpe ${nbpe}
# pieces, and their model.
# shellcheck disable=SC2154
make_units() {
    mkdir -p "$2"
    if [ "${token_type}" = bpe ]; then
        ${python} -m espnet_prune data bpe --nbpe "${nbpe}" "$1" "$2"
    else
        ${plugin} -m espnet2.bin.tokenize_text --token_type "${token_type}" --input "$1" \
            --output "$2/tokens.txt" --field 2- --write_vocabulary true \
            --add_symbol "<blank>:0" --add_symbol "<unk>:1" --add_symbol "<sos/eos>:-1"
    fi
}

# units_options ARRAY DIR: appends what ESPnet's ASR has to know of them.
units_options() {
    local -n _options=$1
    _options+=(--token_type "${token_type}" --token_list "$2/tokens.txt" --use_preprocessor true)
    if [ "${token_type}" = bpe ]; then _options+=(--bpemodel "$2/bpe.model"); fi
}

# infer DATA_DIR OUTPUT_DIR FILE MODULE CONFIG MODEL ARGS...: the MODULE of ESPnet in ${inference_nj}
# jobs on wav.scp of DATA_DIR; what they write to FILE is put together as OUTPUT_DIR/<name of FILE>.
# CONFIG is of the training, MODEL its weights. Nothing is done when that was made with the same of
# all this, the same audio and options. Reads ${python}, ${plugin}, ${decode_cmd}, ${inference_config}
# and ${inference_words}.
# shellcheck disable=SC2154
infer() {
    local data_dir=$1 out=$2 file=$3 module=$4 made jobs whole
    made=$(digest "${data_dir}/wav.scp" "$4" "$5" "$6" ${inference_config:+"${inference_config}"} \
        options: "${inference_words[@]}")
    shift 6
    whole=${out}/$(basename "${file}")
    if [ -f "${whole}" ] && [ "$(cat "${out}/.made" 2> /dev/null)" = "${made}" ]; then return; fi
    rm -f "${out}/.made" "${whole}"
    jobs=$(wc -l < "${data_dir}/wav.scp")
    jobs=$((inference_nj < jobs ? inference_nj : jobs))
    mkdir -p "${out}/logdir"
    rm -rf "${out}"/logdir/output.* # parts of another number of jobs would be taken for ours
    ${python} -m espnet_prune data split "${data_dir}/wav.scp" "${jobs}" "${out}/logdir/keys.JOB.scp"
    # shellcheck disable=SC2086
    ${decode_cmd} JOB=1:"${jobs}" "${out}/logdir/${module##*.}.JOB.log" \
        env OMP_NUM_THREADS=1 ${plugin} -m "${module}" \
        ${inference_config:+--config "${inference_config}"} --ngpu 0 \
        --data_path_and_name_and_type "${data_dir}/wav.scp,speech,${speech_type}" \
        --key_file "${out}/logdir/keys.JOB.scp" --output_dir "${out}/logdir/output.JOB" \
        "$@" "${inference_words[@]}"
    cat "${out}"/logdir/output.*/"${file}" | LC_ALL=C sort > "${whole}.tmp"
    sync "${whole}.tmp"
    mv "${whole}.tmp" "${whole}"
    echo "${made}" > "${out}/.made"
}

# tag_of TEXT: options as a part of a directory's name.
tag_of() { printf '%s\n' "$1" | sed -e 's/--/_/g' -e 's/[^A-Za-z0-9._-]/_/g'; }
