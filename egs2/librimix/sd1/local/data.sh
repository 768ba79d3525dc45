#!/usr/bin/env bash
# Data directories of Libri2Mix, from what its generation writes (db.sh says where it is).
set -e
set -u
set -o pipefail

# shellcheck source=../path.sh
. ./path.sh
# shellcheck source=../db.sh
. ./db.sh

if [ -z "${LIBRIMIX}" ]; then
    echo "$0: error: Fill the value of 'LIBRIMIX' of db.sh: the directory of Libri2Mix" >&2
    exit 1
fi
python3 -m espnet_prune.recipe librimix "${LIBRIMIX}" data \
    ${LIBRISPEECH_RTTM:+--rttm_dir "${LIBRISPEECH_RTTM}"}
