#!/usr/bin/env bash
# Data directories of QUESST 2014, from the database as published (db.sh says where it is).
set -e
set -u
set -o pipefail

# shellcheck source=../template/common/local_data.sh
. template/common/local_data.sh

corpus_of QUESST14 "the directory of QUESST 2014"
python3 -m espnet_prune corpus quesst14 "${QUESST14}" "${datadir}"
