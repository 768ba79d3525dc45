# Turns the options of a recipe into its variables: --name value sets ${name}, dashes read as
# underscores. Source it after the defaults; only variables that exist there are options.
# shellcheck shell=bash

while [ $# -gt 0 ]; do
    case "$1" in
        -h | --help)
            echo "${help_message:-No help.}"
            exit 0
            ;;
        --*)
            _name=${1#--}
            _name=${_name//-/_}
            if [ -z "${!_name+set}" ]; then
                echo "$0: error: unknown option $1 (--help lists them)" >&2
                exit 2
            fi
            if [ $# -lt 2 ]; then
                echo "$0: error: option $1 wants a value" >&2
                exit 2
            fi
            case "${!_name}" in
                true | false)
                    if [ "$2" != true ] && [ "$2" != false ]; then
                        echo "$0: error: $1 takes true or false, not '$2'" >&2
                        exit 2
                    fi
                    ;;
            esac
            printf -v "${_name}" '%s' "$2"
            shift 2
            ;;
        *) break ;;
    esac
done
unset _name
