# Takes --debug out of a recipe's arguments: sets ${debug} to true or false, and the array ${options}
# to all others. Keeps what the user typed in ${command_line}, for the results. Source it first.
# shellcheck shell=bash
# shellcheck disable=SC2034

command_line=$(printf '%q ' "$0" "$@")
export command_line

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
if [ "${debug}" != true ] && [ "${debug}" != false ]; then
    echo "$0: error: --debug takes true or false, not '${debug}'" >&2
    exit 2
fi
