# What all local/data.sh begin with: options (their own and these), environment and corpora. Source it
# after the own options.
# shellcheck shell=bash
# shellcheck disable=SC2034

# shellcheck source=options.sh
. template/common/options.sh

# Options
datadir=data            # Data directories.
download_dir=downloads  # What is downloaded.
nj=1                    # Parallel jobs.
# End of options

option_files=("$0" "${BASH_SOURCE[0]}")
parse_options "$@"
# shellcheck source=path.sh
. template/common/path.sh
# shellcheck source=db.sh
. template/common/db.sh

# clone URL TARGET: fetch a repository to TARGET, whole or not at all; one that is there stays.
clone() {
    if [ -d "$2" ]; then
        return
    fi
    rm -rf "$2.part" # of a run that was killed
    # a host that is silent for a minute is given up
    GIT_HTTP_LOW_SPEED_LIMIT=1000 GIT_HTTP_LOW_SPEED_TIME=60 git clone --depth 1 "$1" "$2.part" &&
        mv "$2.part" "$2"
}

# corpus_of VARIABLE WHAT: stop when db.sh does not say where a corpus is.
corpus_of() {
    if [ -z "${!1}" ]; then
        echo "$0: error: Fill the value of '$1' of template/common/db.sh: $2" >&2
        exit 1
    fi
}
