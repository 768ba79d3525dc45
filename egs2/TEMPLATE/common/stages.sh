# What the stages of all recipes use. Source it first.
# shellcheck shell=bash

# wanted N: whether stage N is to be run, by ${stage}, ${stop_stage} and ${skip_stages}.
# shellcheck disable=SC2154
wanted() {
    [ "${stage}" -le "$1" ] && [ "${stop_stage}" -ge "$1" ] &&
        ! [[ " ${skip_stages} " =~ [[:space:]]$1[[:space:]] ]]
}

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

# digest INPUT...: one line that changes with the inputs (files by content, or words).
digest() { ${python} -m espnet_prune data digest -- "$@"; }

# fresh DIR INPUT...: stop when DIR was made from other inputs, as digest takes them.
fresh() { ${python} -m espnet_prune data fresh -- "$@"; }

# tag_of TEXT: options as a part of a directory's name.
tag_of() { echo "$1" | sed -e 's/--/_/g' -e 's/[^A-Za-z0-9._-]/_/g'; }
