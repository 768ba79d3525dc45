#!/usr/bin/env bash
# Data directories of Audio SNIPS (db.sh says where it is).
set -e
set -u
set -o pipefail

# shellcheck source=../template/common/local_data.sh
. template/common/local_data.sh

corpus_of SNIPS "the directory of Audio SNIPS"
python3 -m espnet_prune corpus snips "${SNIPS}" "${datadir}"
