#!/usr/bin/env bash
# Data directories of Speech Commands v0.01 (db.sh says where it is).
set -e
set -u
set -o pipefail

# shellcheck source=../template/common/local_data.sh
. template/common/local_data.sh

corpus_of SPEECHCOMMANDS "the directory of Speech Commands v0.01"
corpus_of SPEECHCOMMANDS_TEST "the directory of its official test set"
python3 -m espnet_prune corpus speechcommands "${SPEECHCOMMANDS}" "${SPEECHCOMMANDS_TEST}" "${datadir}"
