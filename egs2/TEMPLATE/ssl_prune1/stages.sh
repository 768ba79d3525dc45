# What the stages of all recipes use. Source it first.
# shellcheck shell=bash

# For the results: what the user typed. A recipe's run.sh hands its own on, see debug_option.sh.
# shellcheck disable=SC2034
command_line=${command_line:-$(printf '%q ' "$0" "$@")}
command_line=${command_line% }

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
digest() {
    local x
    for x in "$@"; do if [ -f "${x}" ]; then sha256sum < "${x}"; else echo "${x}"; fi; done | sha256sum
}

# fresh DIR INPUT...: stop when DIR was made from other inputs, as digest takes them. Nothing was made
# as long as DIR is empty.
fresh() {
    local dir=$1 now
    shift
    mkdir -p "${dir}"
    now=$(digest "$@")
    if [ -f "${dir}/.inputs" ] && [ "$(cat "${dir}/.inputs")" != "${now}" ] && [ -n "$(ls "${dir}")" ]; then
        log "error: ${dir} was made from other data, models or options: remove it, or name another place (--expdir, a tag, …; see --help)"
        return 1
    fi
    echo "${now}" > "${dir}/.inputs.tmp"
    mv "${dir}/.inputs.tmp" "${dir}/.inputs"
}
