#!/usr/bin/env bash
# Token pruning on 84 spoken passages with a question each, written for this project.
# --debug true goes through all stages with six of them; see --help for all options.
set -e
set -u
set -o pipefail

debug=false
options=()
while [ $# -gt 0 ]; do
    if [ "$1" = --debug ] && [ $# -ge 2 ]; then
        debug=$2
        shift 2
    else
        options+=("$1")
        shift
    fi
done

defaults=(--test_sets mini_spiral)
case "${debug}" in
    false) ;;
    true)
        defaults=(--test_sets mini_spiral_debug --dumpdir dump_debug --expdir exp_debug)
        defaults+=(--local_data_opts "--items 6 --name mini_spiral_debug" --wer_windows 8)
        defaults+=(--strategies "speechprune rap" --rates "0.2 0.8")
        ;;
    *)
        echo "$0: error: --debug takes true or false, not '${debug}'" >&2
        exit 2
        ;;
esac

./sir.sh "${defaults[@]}" "${options[@]}"
