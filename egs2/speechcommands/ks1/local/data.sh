#!/usr/bin/env bash
# Data directories of Speech Commands v0.01 (db.sh says where it is).
set -e
set -u
set -o pipefail

# shellcheck source=../parse_options.sh
. ./parse_options.sh
# shellcheck source=../path.sh
. ./path.sh
# shellcheck source=../db.sh
. ./db.sh

if [ -z "${SPEECHCOMMANDS}" ]; then
    echo "$0: error: Fill the value of 'SPEECHCOMMANDS' of db.sh: the directory of Speech Commands v0.01" >&2
    exit 1
fi
if [ -z "${SPEECHCOMMANDS_TEST}" ]; then
    echo "$0: error: Fill the value of 'SPEECHCOMMANDS_TEST' of db.sh: the directory of its official test set" >&2
    exit 1
fi
python3 -m espnet_prune.recipe speechcommands "${SPEECHCOMMANDS}" "${SPEECHCOMMANDS_TEST}" data
