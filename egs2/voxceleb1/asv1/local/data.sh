#!/usr/bin/env bash
# Data directories of VoxCeleb1 with trials, from the corpus as published (db.sh says where it is).
set -e
set -u
set -o pipefail

trials=     # List of the test trials; veri_test.txt of the corpus when empty.
held_out=40 # Training speakers to make development trials of.

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
python3 -m espnet_prune.recipe voxceleb_trials "${VOXCELEB1}" data --held_out "${held_out}" \
    ${trials:+--trials "${trials}"}
