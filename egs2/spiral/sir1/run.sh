#!/usr/bin/env bash
# Token pruning on SPIRAL and SPIRAL-H (arXiv 2412.12009); db.sh says where they are.
# --debug true goes through all stages with six items of each; see --help for all options.
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

defaults=(--test_sets "spiral spiral_h" --speech_llm qwen2_audio)
defaults+=(--strategies "speechprune first_phase second_phase rap rac")
case "${debug}" in
    false) ;;
    true)
        defaults=(--test_sets "spiral_debug spiral_h_debug" --speech_llm qwen2_audio)
        defaults+=(--local_data_opts "--items 6 --suffix _debug" --wer_windows 8)
        defaults+=(--dumpdir dump_debug --expdir exp_debug)
        defaults+=(--strategies "speechprune rap" --rates "0.2 0.8")
        ;;
    *)
        echo "$0: error: --debug takes true or false, not '${debug}'" >&2
        exit 2
        ;;
esac

./sir.sh "${defaults[@]}" "${options[@]}"
