#!/usr/bin/env bash
# Data directories of QUESST 2014, from the database as published (db.sh says where it is).
set -e
set -u
set -o pipefail

# shellcheck source=../path.sh
. ./path.sh
# shellcheck source=../db.sh
. ./db.sh

if [ -z "${QUESST14}" ]; then
    echo "$0: error: Fill the value of 'QUESST14' of db.sh: the directory of QUESST 2014" >&2
    exit 1
fi
python3 -m espnet_prune.recipe quesst14 "${QUESST14}" data
