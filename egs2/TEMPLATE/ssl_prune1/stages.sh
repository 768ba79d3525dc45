# What the stages of all recipes use. Source it first.
# shellcheck shell=bash

log() {
    local fname=${BASH_SOURCE[1]##*/}
    echo -e "$(date '+%Y-%m-%dT%H:%M:%S') (${fname}:${BASH_LINENO[0]}:${FUNCNAME[1]}) $*"
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
