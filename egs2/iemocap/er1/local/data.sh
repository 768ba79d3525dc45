#!/usr/bin/env bash
# Data directories of IEMOCAP in five folds (db.sh says where it is).
set -e
set -u
set -o pipefail

# shellcheck source=../parse_options.sh
. ./parse_options.sh
# shellcheck source=../path.sh
. ./path.sh
# shellcheck source=../db.sh
. ./db.sh

if [ -z "${IEMOCAP}" ]; then
    echo "$0: error: Fill the value of 'IEMOCAP' of db.sh: the directory of IEMOCAP" >&2
    exit 1
fi
python3 -m espnet_prune.recipe iemocap "${IEMOCAP}" data
