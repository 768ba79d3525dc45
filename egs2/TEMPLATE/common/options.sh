# Options of recipes, templates and local/data.sh. Source it first.
#
# A script declares its options between the lines "# Options" and "# End of options", one a line:
#     name=value   # What it is.
# Only these names are options: --name value sets ${name}; a dash reads as an underscore. The value
# there says what fits: true or false, a whole number, a number, or any text. Where it is empty, the
# comment may begin with (whole number) or (number). No text of the user's is evaluated.
# shellcheck shell=bash

# What the user typed, for the results. The outermost script says it.
case "$0" in
    template/*) ;;
    *)
        command_line=$(printf '%q ' "$0" "$@")
        command_line=${command_line% }
        export command_line
        ;;
esac

declare -A option_types=() option_texts=() given=()
option_names=()

option_error() {
    local script=$0
    case "$0" in template/*) script=${command_line%% *} ;; esac # what the user called
    echo "${script}: error: $*" >&2
    exit 2
}

# read_options FILE...: the options that the files declare, with the values that the shell has now.
read_options() {
    local file line name declared
    for file in "$@"; do
        declared=false
        while IFS= read -r line; do
            if [ "${line}" = "# Options" ]; then declared=true; fi
            if [ "${line}" = "# End of options" ]; then break; fi
            if ! "${declared}"; then continue; fi
            if [[ ${line} =~ ^([a-z][a-z0-9_]*)=([^#]|#[^ ])*[[:space:]]#\ (.*)$ ]]; then
                name=${BASH_REMATCH[1]}
                option_names+=("${name}")
                option_texts[${name}]=${BASH_REMATCH[3]}
                case "${!name} ${option_texts[${name}]}" in
                    "true "* | "false "*) option_types[${name}]="true or false" ;;
                    " (whole number)"*) option_types[${name}]="a whole number" ;;
                    " (number)"*) option_types[${name}]="a number" ;;
                    *)
                        option_types[${name}]=text
                        if [[ ${!name} =~ ^[0-9]+$ ]]; then option_types[${name}]="a whole number"; fi
                        if [[ ${!name} =~ ^[0-9]+\.[0-9]+$ ]]; then option_types[${name}]="a number"; fi
                        ;;
                esac
            elif [[ ${line} =~ ^[[:space:]]+\#\ (.*)$ ]] && [ ${#option_names[@]} -gt 0 ]; then
                option_texts[${name}]+=$'\n      '${BASH_REMATCH[1]}
            elif [[ ${line} =~ ^\#\ ([A-Z].*)$ ]] && [ "${line}" != "# Options" ]; then
                option_names+=("${BASH_REMATCH[1]}:")
            fi
        done < "${file}"
    done
}

# show_options: a line for each option, with the value that it has now.
show_options() {
    local name
    for name in "${option_names[@]}"; do
        case "${name}" in
            *:) printf '\n%s\n' "${name}" ;;
            *) printf '  --%s [%s]  %s\n' "${name}" "${!name}" "${option_texts[${name}]}" ;;
        esac
    done
}

# set_option NAME VALUE: stops when the value does not fit.
set_option() {
    local value=$2 type=${option_types[$1]} fits=true
    case "${type}" in
        "true or false") if [ "${value}" != true ] && [ "${value}" != false ]; then fits=false; fi ;;
        "a whole number")
            if [[ ${value} =~ ^0*([0-9]{1,15})$ ]]; then value=${BASH_REMATCH[1]}; else fits=false; fi
            ;;
        "a number") if ! [[ ${value} =~ ^([0-9]+\.?|[0-9]*\.[0-9]+)([eE][-+]?[0-9]+)?$ ]]; then fits=false; fi ;;
    esac
    if [ -z "${value}" ] && [[ ${option_texts[$1]} = \(* ]]; then fits=true; fi
    if ! "${fits}"; then option_error "--$1 takes ${type}, not '$2'"; fi
    printf -v "$1" '%s' "${value}"
    given[$1]=true
}

# walk_options OTHERS ARGUMENT...: sets the declared options; others are an error (OTHERS is false) or
# stay in the array ${rest} (true). With --help among them, ${help} is true.
walk_options() {
    local others=$1 name
    shift
    help=false
    rest=()
    while [ $# -gt 0 ]; do
        name=${1#--}
        name=${name//-/_}
        if [ "$1" = -h ] || [ "$1" = --help ]; then
            help=true
            rest+=("$1")
            shift
            continue
        fi
        if [[ $1 =~ ^--[^\ =]+= ]]; then
            option_error "write '${1%%=*} ${1#*=}' with a space, not '$1'"
        fi
        if [[ $1 != --?* ]]; then option_error "'$1' is no option; options start with --"; fi
        if [ -z "${option_types[${name}]+set}" ]; then
            if ! "${others}"; then option_error "unknown option $1 (--help lists them)"; fi
            rest+=("$1")
            shift
            if [ $# -gt 0 ] && [[ $1 != --* || $1 = *\ * ]]; then # its value
                rest+=("$1")
                shift
            fi
            continue
        fi
        if [ $# -lt 2 ] || [[ $2 = --* && -n ${option_types[${2#--}]+set} ]]; then
            if [ "${option_types[${name}]}" = "true or false" ]; then
                option_error "option $1 wants a value: write '$1 true' or '$1 false'"
            fi
            option_error "option $1 wants a value: write '$1 VALUE'"
        fi
        set_option "${name}" "$2"
        shift 2
    done
}

# parse_options ARGUMENT...: sets the options of the script that calls it, or shows them for --help:
# those of the recipe with the recipe's values. ${stages} names the stages.
parse_options() {
    read_options "${option_files[@]:-${BASH_SOURCE[1]}}"
    walk_options false "$@"
    if "${help}"; then
        echo "Usage: ${command_line%% *} [--option value]..."
        if [ -n "${recipe_options:-}" ]; then echo "${recipe_options}"; fi
        show_options
        if [ -n "${stages:-}" ]; then printf '\nStages: %s\n' "${stages}"; fi
        exit 0
    fi
}

# take_options ARGUMENT...: sets the options that the recipe itself declares; the array ${rest} is what
# is left for the template, which shows them, too.
take_options() {
    read_options "${BASH_SOURCE[1]}"
    walk_options true "$@"
    recipe_options=$(show_options)
    export recipe_options
}

# debug_suffix ARGUMENT...: sets ${suffix} to _debug with --debug true, else to nothing.
# shellcheck disable=SC2034
debug_suffix() {
    suffix=
    while [ $# -gt 1 ]; do
        if [ "$1" = --debug ]; then
            suffix=
            if [ "$2" = true ]; then suffix=_debug; fi
        fi
        shift
    done
}

# unless_given NAME VALUE: gives an option this value when the command line says nothing of it.
unless_given() { if [ -z "${given[$1]:-}" ]; then printf -v "$1" '%s' "$2"; fi; }

# words ARRAY TEXT: the text cut at spaces; * and ? stay as they are.
words() { read -r -d '' -a "$1" <<< "$2" || true; }
