#!/usr/bin/env bash
# Data directories of Audio SNIPS (db.sh says where it is).
set -e
set -u
set -o pipefail

# shellcheck source=../path.sh
. ./path.sh
# shellcheck source=../db.sh
. ./db.sh

if [ -z "${SNIPS}" ]; then
    echo "$0: error: Fill the value of 'SNIPS' of db.sh: the directory of Audio SNIPS" >&2
    exit 1
fi
python3 -m espnet_prune.recipe snips "${SNIPS}" data
