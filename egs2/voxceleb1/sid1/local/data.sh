#!/usr/bin/env bash
# Data directories of VoxCeleb1 by its official split (db.sh says where it is).
set -e
set -u
set -o pipefail

split= # Another file than iden_split.txt of the corpus.

# shellcheck source=../parse_options.sh
. ./parse_options.sh
# shellcheck source=../path.sh
. ./path.sh
# shellcheck source=../db.sh
. ./db.sh

if [ -z "${VOXCELEB1}" ]; then
    echo "$0: error: Fill the value of 'VOXCELEB1' of db.sh: the directory of VoxCeleb1" >&2
    exit 1
fi
python3 -m espnet_prune.recipe voxceleb_speakers "${VOXCELEB1}" data ${split:+--split "${split}"}
