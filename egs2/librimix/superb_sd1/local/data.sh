#!/usr/bin/env bash
# Data directories of Libri2Mix, from what its generation writes (db.sh says where it is).
set -e
set -u
set -o pipefail

# shellcheck source=../template/common/local_data.sh
. template/common/local_data.sh

corpus_of LIBRIMIX "the directory of Libri2Mix"
python3 -m espnet_prune corpus librimix "${LIBRIMIX}" "${datadir}" \
    ${LIBRISPEECH_RTTM:+--rttm_dir "${LIBRISPEECH_RTTM}"}
