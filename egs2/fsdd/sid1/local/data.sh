#!/usr/bin/env bash
# Data directories of the Free Spoken Digit Dataset: from where db.sh says, else from its authors.
set -e
set -u
set -o pipefail

# shellcheck source=../parse_options.sh
. ./parse_options.sh
# shellcheck source=../path.sh
. ./path.sh
# shellcheck source=../db.sh
. ./db.sh

if [ -z "${FSDD}" ]; then
    FSDD=downloads/free-spoken-digit-dataset
    if [ ! -d "${FSDD}/recordings" ] && ! git clone --depth 1 \
        https://github.com/Jakobovski/free-spoken-digit-dataset "${FSDD}"; then
        echo "$0: error: the dataset cannot be fetched from its authors. Fill the value of 'FSDD' of" \
            "db.sh: the directory of its recordings" >&2
        exit 1
    fi
fi
python3 -m espnet_prune.recipe fsdd_speakers "${FSDD}" data
