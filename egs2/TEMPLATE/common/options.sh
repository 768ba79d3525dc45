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

# The locals of these functions have a _: they must not hide an option of the same name.

option_error() {
    local script=$0
    case "$0" in template/*) script=${command_line%% *} ;; esac # what the user called
    echo "${script}: error: $*" >&2
    exit 2
}

# read_options FILE...: the options that the files declare, with the values that the shell has now.
read_options() {
    local _file _line _name _declared
    for _file in "$@"; do
        _declared=false
        while IFS= read -r _line; do
            if [ "${_line}" = "# Options" ]; then _declared=true; fi
            if [ "${_line}" = "# End of options" ]; then break; fi
            if ! "${_declared}"; then continue; fi
            if [[ ${_line} =~ ^([a-z][a-z0-9_]*)=([^#]|#[^ ])*[[:space:]]#\ (.*)$ ]]; then
                _name=${BASH_REMATCH[1]}
                option_names+=("${_name}")
                option_texts[${_name}]=${BASH_REMATCH[3]}
                case "${!_name} ${option_texts[${_name}]}" in
                    "true "* | "false "*) option_types[${_name}]="true or false" ;;
                    " (whole number)"*) option_types[${_name}]="a whole number" ;;
                    " (number)"*) option_types[${_name}]="a number" ;;
                    *)
                        option_types[${_name}]=text
                        if [[ ${!_name} =~ ^[0-9]+$ ]]; then option_types[${_name}]="a whole number"; fi
                        if [[ ${!_name} =~ ^[0-9]+\.[0-9]+$ ]]; then option_types[${_name}]="a number"; fi
                        ;;
                esac
            elif [[ ${_line} =~ ^[[:space:]]+\#\ (.*)$ ]] && [ ${#option_names[@]} -gt 0 ]; then
                option_texts[${_name}]+=$'\n      '${BASH_REMATCH[1]}
            elif [[ ${_line} =~ ^\#\ ([A-Z].*)$ ]] && [ "${_line}" != "# Options" ]; then
                option_names+=("${BASH_REMATCH[1]}:")
            fi
        done < "${_file}"
    done
}

# show_options: a line for each option, with the value that it has now.
show_options() {
    local _name
    for _name in "${option_names[@]}"; do
        case "${_name}" in
            *:) printf '\n%s\n' "${_name}" ;;
            *) printf '  --%s [%s]  %s\n' "${_name}" "${!_name}" "${option_texts[${_name}]}" ;;
        esac
    done
}

# is_option NAME: whether it is declared. What else the user typed never comes into a subscript, where
# bash may evaluate it.
is_option() { [[ $1 =~ ^[a-z][a-z0-9_]*$ ]] && [ -n "${option_types[$1]+set}" ]; }

# set_option NAME VALUE: stops when the value does not fit.
set_option() {
    local _value=$2 _type=${option_types[$1]} _fits=true
    case "${_type}" in
        "true or false") if [ "${_value}" != true ] && [ "${_value}" != false ]; then _fits=false; fi ;;
        "a whole number")
            if [[ ${_value} =~ ^0*([0-9]{1,15})$ ]]; then _value=${BASH_REMATCH[1]}; else _fits=false; fi
            ;;
        "a number") if ! [[ ${_value} =~ ^([0-9]+\.?|[0-9]*\.[0-9]+)([eE][-+]?[0-9]+)?$ ]]; then _fits=false; fi ;;
    esac
    if [ -z "${_value}" ] && [[ ${option_texts[$1]} = \(* ]]; then _fits=true; fi
    if ! "${_fits}"; then option_error "--$1 takes ${_type}, not '$2'"; fi
    printf -v "$1" '%s' "${_value}"
    given[$1]=true
}

# walk_options OTHERS ARGUMENT...: sets the declared options; others are an error (OTHERS is false) or
# stay in the array ${rest} (true). With --help among them, ${help} is true.
walk_options() {
    local _others=$1 _name
    shift
    help=false
    rest=()
    while [ $# -gt 0 ]; do
        _name=${1#--}
        _name=${_name//-/_}
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
        if ! is_option "${_name}"; then
            if ! "${_others}"; then option_error "unknown option $1 (--help lists them)"; fi
            rest+=("$1")
            shift
            if [ $# -gt 0 ] && [[ $1 != --* || $1 = *\ * ]]; then # its value
                rest+=("$1")
                shift
            fi
            continue
        fi
        if [ $# -lt 2 ] || { [[ $2 = --* ]] && is_option "${2#--}"; }; then
            if [ "${option_types[${_name}]}" = "true or false" ]; then
                option_error "option $1 wants a value: write '$1 true' or '$1 false'"
            fi
            option_error "option $1 wants a value: write '$1 VALUE'"
        fi
        set_option "${_name}" "$2"
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

# words ARRAY TEXT: the text cut at blanks; * and ? stay as they are, and what is between '' or ""
# stays together. Nothing is evaluated.
words() {
    local -n _words=$1
    local _text=$2 _part _word _quoted="\"[^\"]*\"|'[^']*'"
    local _first="^[[:space:]]*((${_quoted}|[^[:space:]\"'])+)"
    _words=()
    while [[ ${_text} =~ ${_first} ]]; do
        _text=${_text:${#BASH_REMATCH[0]}}
        _part=${BASH_REMATCH[1]} _word=
        while [[ ${_part} =~ ^(${_quoted}|[^\"\']+) ]]; do
            _part=${_part:${#BASH_REMATCH[0]}}
            case "${BASH_REMATCH[0]}" in
                [\"\']*) _word+=${BASH_REMATCH[0]:1:-1} ;;
                *) _word+=${BASH_REMATCH[0]} ;;
            esac
        done
        _words+=("${_word}")
    done
    if [[ ${_text} = *[^[:space:]]* ]]; then option_error "'$2' has a quote that does not end"; fi
}
