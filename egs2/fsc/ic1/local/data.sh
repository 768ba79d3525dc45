#!/usr/bin/env bash
# Data directories of Fluent Speech Commands (db.sh says where it is).
set -e
set -u
set -o pipefail

# shellcheck source=../parse_options.sh
. ./parse_options.sh
# shellcheck source=../path.sh
. ./path.sh
# shellcheck source=../db.sh
. ./db.sh

if [ -z "${FSC}" ]; then
    echo "$0: error: Fill the value of 'FSC' of db.sh: the directory of Fluent Speech Commands" >&2
    exit 1
fi
python3 -m espnet_prune.recipe fsc "${FSC}" data
