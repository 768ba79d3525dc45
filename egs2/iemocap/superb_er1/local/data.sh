#!/usr/bin/env bash
# Data directories of IEMOCAP in five folds (db.sh says where it is).
set -e
set -u
set -o pipefail

# shellcheck source=../template/common/local_data.sh
. template/common/local_data.sh

corpus_of IEMOCAP "the directory of IEMOCAP"
python3 -m espnet_prune corpus iemocap "${IEMOCAP}" "${datadir}"
