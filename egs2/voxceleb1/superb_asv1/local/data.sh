#!/usr/bin/env bash
# Data directories of VoxCeleb1 with trials, from the corpus as published (db.sh says where it is).
set -e
set -u
set -o pipefail

# Options
trials=     # List of the test trials; veri_test.txt of the corpus when empty.
held_out=40 # Training speakers to make development trials of.
# End of options

# shellcheck source=../template/common/local_data.sh
. template/common/local_data.sh

corpus_of VOXCELEB1 "the directory of VoxCeleb1"
python3 -m espnet_prune corpus voxceleb_trials "${VOXCELEB1}" "${datadir}" --held_out "${held_out}" \
    ${trials:+--trials "${trials}"}
